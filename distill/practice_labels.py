"""Kinds of short tasks that sort or compare words, things, numbers or sentences."""

from random import Random

from distill.practice_task import Task, asked, shuffled
from distill.practice_words import (
    BAD,
    CAPITALS,
    GOOD,
    LABELS,
    OPPOSITES,
    PAST,
    PEOPLE,
    REVIEWED,
    REVIEWS,
    SPEECHES,
    THINGS,
    TOPICS,
    USES,
    WORDS,
)


def category(rng: Random) -> Task:
    """What kind of thing a word is, after one to three that are told."""
    form = rng.choice(
        ["Word: {w}\nKind:", "{w} is a kind of", "What is {w}?\nA kind of", "{w} ->", "Category of {w}:"]
    )
    *shown, kind = rng.sample(list(WORDS), rng.randrange(2, 5))
    lines = [f"{form.format(w=rng.choice(WORDS[of]))} {of}" for of in shown]
    return Task("\n".join([*lines, form.format(w=rng.choice(WORDS[kind]))]), kind)


def odd_one_out(rng: Random) -> Task:
    """Which of four words is of another kind."""
    kind, other = rng.sample(list(WORDS), 2)
    odd = rng.choice(WORDS[other])
    question = rng.choice(["Which word does not belong?", "Odd one out", "Which is not like the others?"])
    return asked(", ".join(shuffled(rng, [*rng.sample(WORDS[kind], 3), odd])), question, odd, rng)


def member(rng: Random) -> Task:
    """Which of four words is of a kind."""
    kinds = rng.sample(list(WORDS), 4)
    words = [rng.choice(WORDS[kind]) for kind in kinds]
    question = rng.choice(["Which of these belongs to: {k}?", "The {k} in this list", "Find the {k}."])
    return asked(", ".join(shuffled(rng, words)), question.format(k=kinds[0]), words[0], rng)


def relation(rng: Random) -> Task:
    """Opposites, past tenses, capitals: after two or three that are told, or in a sentence."""
    of, sentence = rng.choice(
        [
            (OPPOSITES, "The opposite of {w} is"), (PAST, "Yesterday, not {w} but"),
            (CAPITALS, "The capital of {w} is"),
        ]
    )  # fmt: skip
    *shown, word = rng.sample(list(of), rng.choice([1, 3, 4]))
    form = rng.choice(["{w} ->", "{w}:", "{w} ="]) if shown else sentence
    lines = [f"{form.format(w=one)} {of[one]}" for one in shown]
    return Task("\n".join([*lines, form.format(w=word)]), of[word])


def purpose(rng: Random) -> Task:
    """Which thing one needs for something, with four to choose from or none."""
    thing, *others = rng.sample(list(USES), 4)
    if rng.random() < 0.5:
        question = rng.choice(["To {u} you need the", "How can I {u}? With the"])
        return Task(question.format(u=USES[thing]), thing)
    text = "Choices: " + ", ".join(shuffled(rng, [thing, *others]))
    return asked(text, f"Which one helps to {USES[thing]}?", thing, rng)


def sentiment(rng: Random) -> Task:
    """Whether a review is good or bad, in one of LABELS."""
    bad = rng.random() < 0.5
    text = rng.choice(REVIEWS).format(a=rng.choice(REVIEWED), w=rng.choice(BAD if bad else GOOD))
    labels = rng.choice(LABELS)
    form = rng.choice(
        ["Review: {t}\n{a} or {b}?", "{t}\nFeeling ({b}, {a}):", "Text: {t}\nLabel ({a} or {b}):"]
        if labels != LABELS[0] or rng.random() < 0.5
        else ["Review: {t}\nSentiment:", "{t}\nThe review is", "Comment: {t}\nVerdict:"]
    )
    return Task(form.format(t=text, a=labels[0], b=labels[1]), labels[bad])


def topic(rng: Random) -> Task:
    """What one to three sentences are about, with labels to choose from."""
    label = rng.choice(list(TOPICS))
    slots = {kind: rng.choice(words) for kind, words in WORDS.items()} | {"n": str(rng.randrange(2, 10))}
    text = " ".join(one.format(**slots) for one in rng.sample(TOPICS[label], rng.choice([1, 1, 2, 3])))
    others = rng.sample([other for other in TOPICS if other != label], rng.randrange(2, 6))
    form = rng.choice(
        [
            "Labels: {o}\nText: {t}\nLabel:", "News: {t}\nSection ({o}):", "{t}\nOne of {o}:",
            "{t}\nIs it about {o}? About", "Text: {t}\nThe best label of {o} is",
        ]
    )  # fmt: skip
    return Task(form.format(t=text, o=", ".join(shuffled(rng, [label, *others]))), label)


def speech(rng: Random) -> Task:
    """Whether a sentence is a question, an order or a statement."""
    label = rng.choice(list(SPEECHES))
    text = rng.choice(SPEECHES[label]).format(p=rng.choice(PEOPLE), t=rng.choice(THINGS))
    form = rng.choice(
        ["{t}\nquestion, order or statement?", "Sentence: {t}\nForm (statement, order, question):"]
    )
    return Task(form.format(t=text), label)


def larger(rng: Random) -> Task:
    """The larger or the smaller of two numbers."""
    pair = rng.sample(range(1, 100), 2)
    name, choose = rng.choice([("larger", max), ("smaller", min)])
    question = rng.choice(["Which is {w}?", "The {w} number", "{w} one"]).format(w=name)
    return asked("{}, {}".format(*pair), question, str(choose(pair)), rng)
