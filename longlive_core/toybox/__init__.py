"""The toybox: a procedural world of moving shapes, its captions and stories, and the judge that reads films of it."""
