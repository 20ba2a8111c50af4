"""The toybox: a procedural world of moving shapes, its captions and stories, and the judge that reads films of it."""

FPS = 16  # frames per second
WIDTH, HEIGHT = 128, 80  # of the picture, pixels
