"""Options for requests to a server: limits, prices, timeouts, image size. Imports nothing of
HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field

from thresher.backends.openai.account import Account
from thresher.errors import ConfigError, opt

KEY_VARIABLE = "OPENAI_API_KEY"
PNG_PIXELS = 256 * 256  # images of at most this many pixels are sent lossless
JPEG_QUALITY = 90


@dataclass(frozen=True)
class ServerOptions:
    """The options of one run, for all its models. Raises ConfigError for a value out of range.

    account: what the run has sent and spent so far.
    """

    concurrency: int = 8
    """Rows requested at the same time."""
    timeout: float = 120.0
    """Seconds for one complete answer."""
    tries: int = 12
    """How often a request is sent before its row is given up."""
    backoff: float = 0.5
    """Seconds: the wait before try k is uniform in 0 … backoff · 2^k, at most 8."""
    image_side: int = 1024
    """Longest side in pixels of an image as it is sent; larger ones are reduced to it."""
    max_requests: int | None = None
    """Limit on the requests of this run, retries included."""
    max_cost: float | None = None
    """Limit on the cost of this run, in the currency of the prices."""
    price_in: float | None = None
    """Price of a million prompt tokens."""
    price_out: float | None = None
    """Price of a million answer tokens."""
    api_key_env: str | None = None
    """Environment variable that contains the key; None: OPENAI_API_KEY, and no key if that is not
    set."""
    account: Account = field(default_factory=Account, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, value, min_length in (
            ("concurrency", self.concurrency, 1),
            ("image_side", self.image_side, 16),
            ("max_requests", self.max_requests, 1),
        ):
            if value is not None and value < min_length:
                raise ConfigError(
                    f": expected a whole number, at least {min_length}.", option=name, value=value
                )
        if not self.timeout > 0:
            raise ConfigError(
                ": expected seconds, more than 0.", option="timeout", value=self.timeout
            )
        prices = (("price_in", self.price_in), ("price_out", self.price_out))
        for name, price in prices:
            if price is not None and not price >= 0:
                raise ConfigError(
                    ": expected a price of a million tokens, 0 or more.", option=name, value=price
                )
        given = [name for name, price in prices if price is not None]
        if len(given) == 1:
            other = opt(next(name for name, price in prices if price is None))
            raise ConfigError(
                f" without {other}: a cost needs both prices, each for a million "
                f"tokens. Add {other} (0 where the server does not charge for these), or leave "
                "both out.",
                option=given[0],
            )
        if self.max_cost is not None:
            if not self.max_cost > 0:
                raise ConfigError(": expected more than 0.", option="max_cost", value=self.max_cost)
            if self.price_in is None or self.price_out is None:
                raise ConfigError(
                    f" needs the server's prices: give {opt('price_in')} and {opt('price_out')}, "
                    "each for a million tokens.",
                    option="max_cost",
                )

    @property
    def pixels(self) -> str:
        """How images are sent, as text: it changes the numbers, so it is part of the model's
        identity."""
        return f"jpeg{JPEG_QUALITY}<={self.image_side}px,png<={PNG_PIXELS}pixels"

    def cost(self) -> float | None:
        """Cost of the run so far; None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return (
            self.account.tokens_in * self.price_in + self.account.tokens_out * self.price_out
        ) / 1e6

    def bill(self) -> str:
        """What the run has sent so far, for messages.

        >>> ServerOptions().bill()
        '0 requests sent, 0 tokens in, 0 out'
        """
        a, cost = self.account, self.cost()
        price = "" if cost is None else f", about {cost:.4g} at the prices given"
        requests = f"{a.requests:,} request{'' if a.requests == 1 else 's'}"
        return f"{requests} sent, {a.tokens_in:,} tokens in, {a.tokens_out:,} out{price}"
