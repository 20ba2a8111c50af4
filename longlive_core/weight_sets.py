"""The two sets of weights that a training's file may hold, and the choice between them; nothing here needs torch."""

GENERATOR, GENERATOR_EMA = "generator", "generator_ema"  # the weights, and their moving average

# What people choose (`--weights`, the widget of Load LongLive, a training's settings) -> `prefer_ema` of loaders.
CHOICES: dict[str, bool | None] = {"auto": None, GENERATOR: False, GENERATOR_EMA: True}
