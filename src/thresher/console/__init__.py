"""What a terminal shows while work goes on."""
