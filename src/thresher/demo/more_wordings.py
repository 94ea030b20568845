"""Additional wordings for the last training stage, none of them used by the pool: with more
variety the model generalises to new wordings."""

QUESTIONS: dict[str, tuple[str, ...]] = {
    "colour": (
        "Which colour is the {name}?",
        "What is the color of this {name}?",
        "What colour does this {name} have?",
        "What is the color of the {name} in this picture?",
    ),
    "shape": (
        "What is the {colour} thing?",
        "Which object here is {colour}?",
        "What shape does the {colour} object have?",
        "What is the shape that is {colour}?",
    ),
    "position": (
        "Where do you see the {colour} {name}?",
        "In which part of the image do you see the {colour} {name}?",
        "Where is this {colour} {name}?",
    ),
    "existence": (
        "Do you see any {colour} {name}?",
        "Does this picture contain a {colour} {name}?",
        "Is there any {colour} {name} in this picture?",
        "Does the image have any {colour} {name}?",
        "Do you see a {colour} {name} here?",
    ),
    "count": (
        "What is the number of {things}?",
        "How many {things} are there in this image?",
        "How many {things} does the picture have?",
    ),
    "spatial": (
        "Where is the {first} seen from the {second}?",
        "Relative to the {second}, where is the {first}?",
        "On which side of the {second} do you see the {first}?",
        "Where do you see the {first} relative to the {second}?",
    ),
    "comparison": (
        "Do you see more {first} or more {second}?",
        "Which are there more of, {first} or {second}?",
        "Are {first} or {second} more numerous?",
    ),
    "digits": (
        "What number do you read?",
        "Which number is written here?",
        ("What number is in the picture?"),
    ),
    "letters": (
        "What letters do you read?",
        "Which word is written here?",
        ("What letters are in the picture?"),
    ),
    "chart_value": (
        "How high is the bar that is {colour}?",
        "What value has the {colour} bar?",
        "What value is shown by the {colour} bar?",
    ),
    "chart_extreme": (
        "What is the color of the {extreme} bar?",
        ("Which of the bars is the {extreme}?"),
    ),
    "odd_one_out": (
        "Which one is the odd one?",
        "What does not fit here?",
        ("Which does not fit with the others?"),
    ),
    "logic": (
        "Is there a {first} {operator} a {second} in this image?",
        "Do you see any {first} {operator} any {second}?",
        "Do you see a {first} {operator} a {second} here?",
    ),
    "sum": (
        "What is the sum of these digits?",
        "What do these two digits add up to?",
        "Add up the two digits.",
    ),
    "larger": (
        "Which digit is the larger of the two?",
        "What is the larger of the two digits?",
        "Which digit is larger?",
    ),
    "description": (
        "Describe what you see.",
        "What does this image show?",
        ("Write a caption of the picture."),
    ),
}

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "word": (
        "Answer using one word.",
        "Answer with a single word or a phrase.",
        "Use a word or a phrase.",
    ),
    "yesno": ("Answer only yes or no.", "Answer yes or no.", "Answer with a yes or a no."),
    "sentence": (
        "Answer with a full sentence.",
        "Answer in one sentence.",
        "Write a full sentence.",
    ),
    "steps": ("Think first, then answer.", "Go step by step.", "Think in steps."),
    "choice": (
        "Answer with the letter of the right choice.",
        "Give the option's letter.",
        "Answer with one letter.",
    ),
    "description": ("",),
}
