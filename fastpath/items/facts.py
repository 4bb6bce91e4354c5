"""one_hop: five stated facts of one relation, recall one of them."""

from itertools import product

from fastpath.items.item import Draw, Item, template_id
from fastpath.items.pools import MEN, WOMEN

NUM_FACTS, NUM_CHOICES = 5, 4

# (beginning of the fact with {n}, question with {n}, values: one token each after a space)
RELATIONS = {
    "calibration": [
        ("{n} drinks", "What does {n} drink?", "coffee tea milk juice water wine beer soda"),
        ("{n} likes the colour", "Which colour does {n} like?", "red blue green black white yellow pink brown"),
        ("{n} grows", "What does {n} grow?", "roses grapes lemons cherries rice cotton corn beans"),
        ("{n} works with", "What does {n} work with?", "wood steel glass stone clay paper silk leather"),
    ],
    "evaluation": [
        ("{n} owns a", "What does {n} own?", "cat dog horse rabbit goat parrot snake donkey"),
        ("{n} plays the", "What does {n} play?", "piano violin guitar flute trumpet harp organ drums"),
        ("{n} works as a", "What is the job of {n}?", "doctor nurse teacher baker farmer painter dentist pilot"),
        ("{n} speaks", "What does {n} speak?", "French German Spanish Italian Russian Greek Dutch Polish"),
        ("{n} is good at", "What is {n} good at?", "tennis football hockey golf chess rugby boxing swimming"),
        ("{n} travels by", "How does {n} travel?", "train bus car boat bicycle taxi tram truck"),
        ("{n} studies", "What does {n} study?", "history biology chemistry physics geography music law medicine"),
    ],
    "distillation": [
        ("{n} is in the", "Where is {n}?", "kitchen garage garden attic bathroom bedroom library office"),
        ("{n} lost a", "What did {n} lose?", "key coin map lamp book ring camera knife"),
        ("{n} eats", "What does {n} eat?", "pizza pasta soup salad bread cheese cake curry"),
        ("{n} comes on", "When does {n} come?", "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    ],
}

# {facts}, then {begin} (the fact's beginning) or {question}
PHRASINGS = {
    "calibration": [
        "{facts}\nWe know that {begin}",
        "Read: {facts}\nNow answer: {question}\nAnswer:",
        "{facts} To repeat, {begin}",
        "Story: {facts}\n{question} The story says {begin}",
    ],
    "evaluation": [
        "{facts}\n{begin}",
        "{facts}\nQuestion: {question}\nAnswer:",
        "{facts} So {begin}",
        "Facts: {facts}\n\nQ: {question}\nA: {begin}",
        "{facts} As stated above, {begin}",
        "List: {facts}\nFrom the list: {begin}",
    ],
    "distillation": [
        "{facts}\nRemember, {begin}",
        "Notes: {facts}\n{question}\nReply: {begin}",
        "{facts} {question} Of course {begin}",
        "{facts}\nTrue statement: {begin}",
    ],
}


def one_hop(draw: Draw) -> Item:
    """Five people, five values of one relation; the question asks for the value of a dealt person."""
    relation, phrasing = draw.deal("template", list(product(RELATIONS[draw.split], PHRASINGS[draw.split])))
    beginning, question, pool = relation
    rng = draw.rng
    names = rng.sample(WOMEN[draw.split] + MEN[draw.split], NUM_FACTS)
    values = rng.sample(pool.split(), NUM_FACTS)
    facts = [f"{beginning.format(n=name)} {value}." for name, value in zip(names, values, strict=True)]
    asked = draw.deal("asked", range(NUM_FACTS))
    name, answer = names[asked], values[asked]
    prompt = phrasing.format(
        facts=" ".join(facts), begin=beginning.format(n=name), question=question.format(n=name)
    )
    wrong = rng.sample([value for value in values if value != answer], NUM_CHOICES - 1)
    return draw.item(
        prompt=prompt,
        choices=draw.choices(answer, wrong),
        answer=answer,
        template=template_id("|".join(relation), phrasing),
    )
