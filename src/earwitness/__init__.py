"""Earwitness: does a model that takes video with sound really listen?"""

__version__ = "0.1.0"
