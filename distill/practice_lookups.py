"""Kinds of short tasks about what a text says."""

from collections.abc import Sequence
from random import Random

from distill.practice_task import Task, asked
from distill.practice_words import AGAIN, NOTES, PEOPLE, SAYINGS, THINGS, WORDS


def possession(rng: Random) -> Task:
    """Who has which thing: said again up to the thing, or asked for the person."""
    num = rng.randrange(2, 6)
    people, things = rng.sample(PEOPLE, num), rng.sample(THINGS, num)
    verb = rng.choice(["has the", "bought the", "carries the", "lost the", "hid the", "broke the"])
    lines = [f"{person} {verb} {thing}." for person, thing in zip(people, things, strict=True)]
    text, at = _joined(rng, lines), rng.randrange(num)
    if rng.random() < 0.5:
        return asked(text, f"Who {verb} {things[at]}?", people[at], rng)
    return Task(f"{text}{rng.choice(AGAIN)}{people[at]} {verb}", things[at])


def location(rng: Random) -> Task:
    """In which room a thing is: said again up to the room, or asked."""
    num = rng.randrange(2, 6)
    things, rooms = rng.sample(THINGS, num), rng.sample(WORDS["room"], num)
    form = rng.choice(["The {t} is in the", "We keep the {t} in the", "She saw the {t} in the"])
    starts = [form.format(t=thing) for thing in things]
    text = _joined(rng, [f"{start} {room}." for start, room in zip(starts, rooms, strict=True)])
    at = rng.randrange(num)
    if rng.random() < 0.5:
        return asked(text, f"Where is the {things[at]}?", rooms[at], rng)
    return Task(f"{text}{rng.choice(AGAIN)}{starts[at]}", rooms[at])


def time(rng: Random) -> Task:
    """At what time a thing comes."""
    lines = [
        ("The {t} comes at {v}.", "When does the {t} come?"),
        ("At {v} they bring the {t}.", "When do they bring the {t}?"),
        ("We expect the {t} at {v}.", "At what time do we expect the {t}?"),
    ]
    values = [f"{rng.randrange(1, 13)}:{minute}" for minute in rng.sample(range(10, 60), 5)]
    return _listed(lines, values, rng)


def number(rng: Random) -> Task:
    """What a thing costs, or how many there are."""
    lines = [
        ("{t} {v}", "Price of the {t}"),
        ("{t}: {v} dollars", "How many dollars is the {t}?"),
        ("{v} of {t}", "How many of {t}?"),
        ("{t} x {v}", "Number of {t}"),
    ]
    return _listed(lines, [str(value) for value in rng.sample(range(2, 99), 5)], rng)


def cell(rng: Random) -> Task:
    """One cell of a small table."""
    columns, num = rng.sample(list(WORDS), 2), rng.randrange(2, 5)
    people = rng.sample(PEOPLE, num)
    cells = [rng.sample(WORDS[column], num) for column in columns]
    lines = [("name", *columns), *zip(people, *cells, strict=True)]
    mark, at, column = rng.choice([",", " | ", "\t", ";"]), rng.randrange(num), rng.randrange(2)
    question = rng.choice(["{c} of {p}", "What is the {c} of {p}?", "{p}, {c}"])
    question = question.format(c=columns[column], p=people[at])
    return asked("\n".join(map(mark.join, lines)), question, cells[column][at], rng)


def note(rng: Random) -> Task:
    """One of the things that a note tells: a phone number, a room, an amount."""
    told = {
        "phone": f"555-{rng.randrange(1000, 10_000)}", "room": str(rng.randrange(10, 400)),
        "person": rng.choice(PEOPLE), "country": rng.choice(WORDS["country"]),
        "amount": f"{rng.randrange(5, 900)} euros",
        "animal": rng.choice(WORDS["mammal"]), "colour": rng.choice(WORDS["colour"]),
    }  # fmt: skip
    keys = rng.sample(list(told), rng.randrange(2, 5))
    text = ", ".join(rng.choice(NOTES[key]).format(v=told[key]) for key in keys)
    key = rng.choice(keys)
    question = rng.choice(["{k}", "Which {k}?", "What is the {k}?", "Extract the {k}."]).format(k=key)
    return asked(f"{rng.choice(['Note: ', 'Please ', 'Hi, ', ''])}{text}.", question, told[key], rng)


def speaker(rng: Random) -> Task:
    """Who said a sentence of a dialogue."""
    people, lines, at = rng.sample(PEOPLE, 3), rng.sample(SAYINGS, 3), rng.randrange(3)
    text = "\n".join(f"{person}: {line}" for person, line in zip(people, lines, strict=True))
    question = rng.choice(['Who said "{s}"?', 'The one who said "{s}"']).format(s=lines[at])
    return asked(text, question, people[at], rng)


def position(rng: Random) -> Task:
    """The first, second or last word of a list, or the one after another."""
    words = rng.sample(THINGS, rng.randrange(3, 6))
    after = rng.randrange(1, len(words))
    question, at = rng.choice(
        [
            ("The first word", 0), ("What is the second word?", 1), ("The last word", -1),
            (f"Which word comes after {words[after - 1]}?", after),
        ]
    )  # fmt: skip
    return asked(rng.choice([", ", " ", "\n"]).join(words), question, words[at], rng)


def contains(rng: Random) -> Task:
    """Whether a word is in a list."""
    word, *words = rng.sample(THINGS, rng.randrange(4, 7))
    inside = rng.random() < 0.5
    question = rng.choice(["Is {w} in the list?", "Does it name the {w}?", "{w} there?"])
    question = question.format(w=rng.choice(words) if inside else word)
    return asked(", ".join(words), question, "yes" if inside else "no", rng)


def _joined(rng: Random, lines: Sequence[str]) -> str:
    return rng.choice([" ", "\n", "\n- "]).join(lines)


def _listed(lines: Sequence[tuple[str, str]], values: Sequence[str], rng: Random) -> Task:
    """Things with their values, one of which is asked."""
    line, question = rng.choice(lines)
    things = rng.sample(THINGS, rng.randrange(3, 6))
    told = [line.format(t=thing, v=value) for thing, value in zip(things, values, strict=False)]
    at = rng.randrange(len(things))
    text = rng.choice([" | ", "\n", ", ", "\n* "]).join(told)
    return asked(text, question.format(t=things[at]), values[at], rng)
