"""Words to fill conversations with, and ways to draw them."""

from __future__ import annotations

import random

from facts import CAPITALS


def _words(text: str) -> list[str]:
    return text.split()


NAMES = _words("""
    Ada Alan Alice Amir Ana Anders Anya Aria Ben Bella Bob Carl Carmen Chen Chloe Clara Dan Dana David Diego Dora
    Ella Emil Emma Eric Eva Fatima Felix Finn Flora Frank George Grace Greta Hana Hans Helen Hugo Ida Igor Ines Ivan
    Jack Jane Jin Joan John Jonas Jose Julia Kai Karen Kate Kenji Lars Laura Leo Lena Li Lily Linda Lucas Lucy Luis
    Maria Mark Marta Max Maya Mei Mia Mike Mina Nadia Nina Nora Omar Oscar Otto Paul Petra Pia Quinn Rania Raj Rosa
    Ruth Sam Sara Sofia Stan Sven Tara Theo Tim Tina Tom Uma Vera Victor Viola Will Yara Yuki Zane Zoe
""")

THINGS = _words("""
    apple bridge candle castle cloud desk door drum engine feather fish flower forest garden glass guitar hammer
    harbor hat hill island jacket kettle key kite ladder lake lamp lantern map meadow mirror mountain ocean orchard
    paper pencil piano pillow pocket river road robot rocket rope sail shell ship shoe silver snow spoon star stone
    storm table tent tiger tower train valley violin wagon wall water whale wheel window winter
""")

FOODS = _words("""
    bread soup pasta rice pizza salad cheese cake pie sushi tacos curry pancakes stew noodles dumplings porridge
    honey
""")

CITIES = [
    *CAPITALS.values(),
    "Boston",
    "Chicago",
    "Seattle",
    "Denver",
    "Austin",
    "Milan",
    "Munich",
    "Lyon",
    "Porto",
    "Osaka",
    "Kyoto",
    "Mumbai",
    "Sydney",
    "Toronto",
]

PLACES = [
    "the forest",
    "the harbor",
    "the old town",
    "a small village",
    "the mountains",
    "the seaside",
    "a quiet farm",
    "the market",
    "the library",
    "a castle",
]

ANIMALS = _words("llama fox owl rabbit bear cat dog turtle mouse goat hen pony")

ADJECTIVES = _words("brave quiet clever gentle curious tiny kind sleepy merry shy proud young")


def draw_word(rng: random.Random) -> str:
    """A made-up word: the model must copy it, because it cannot have memorised it."""
    syllables = (rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4)))
    return "".join(syllables)


def draw_thing(rng: random.Random) -> str:
    return rng.choice(THINGS) if rng.random() < 0.6 else draw_word(rng)


def draw_name(rng: random.Random) -> str:
    return rng.choice(NAMES) if rng.random() < 0.7 else draw_word(rng).capitalize()
