"""The words that distill/practice.py makes its short tasks of."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("/") for pair in text.split())


WORDS = {
    kind: _words(words)
    for kind, words in {
        "mammal": "dog cat horse cow sheep goat lion tiger bear wolf rabbit mouse monkey camel fox deer",
        "bird": "eagle owl duck swan crow parrot pigeon sparrow hawk penguin stork goose",
        "fruit": "apple banana grape pear plum cherry lemon melon mango kiwi",
        "vegetable": "carrot cabbage pea spinach pumpkin broccoli turnip lettuce radish bean",
        "colour": "red blue green yellow black white brown purple pink grey",
        "tool": "hammer saw drill spade wrench axe chisel rake pliers ladder shovel screwdriver",
        "vehicle": "car bus truck train bicycle tram boat plane ship scooter van tractor",
        "instrument": "piano guitar violin drum flute trumpet harp cello clarinet banjo",
        "sport": "football tennis golf hockey boxing rugby chess cricket swimming skiing rowing cycling",
        "country": "France Spain Japan Brazil India Egypt Canada Kenya Norway Peru Greece Poland Turkey",
        "body part": "hand foot knee nose ear elbow shoulder neck finger heart lung back",
        "garment": "shirt hat coat sock glove scarf dress skirt shoe belt jacket sweater",
        "drink": "water milk juice tea coffee wine beer lemonade cocoa cider",
        "metal": "iron copper tin lead zinc nickel steel brass aluminium titanium",
        "room": "kitchen bedroom bathroom garage cellar attic hall office nursery pantry",
        "subject": "history physics biology chemistry geography music art algebra grammar economics",
        "planet": "Mars Venus Saturn Jupiter Mercury Neptune Uranus",
        "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "tree": "oak pine maple birch willow cedar elm fir beech",
        "flower": "tulip lily daisy orchid poppy sunflower daffodil",
        "insect": "ant bee wasp fly beetle moth butterfly mosquito grasshopper termite",
        "furniture": "chair table bed sofa desk shelf lamp wardrobe stool cupboard",
    }.items()
}
PEOPLE = _words("Tom Ann Sam Kim Max Eve Ben Zoe Dan Mia Ray Ida Luke Nina Carl Vera Otto Elsa Omar Lena")
THINGS = tuple(
    word
    for kind in ("tool", "fruit", "garment", "furniture", "instrument", "vehicle")
    for word in WORDS[kind]
)
OPPOSITES = _pairs(
    "hot/cold big/small fast/slow old/young day/night up/down left/right open/closed full/empty rich/poor"
    " happy/sad hard/soft wet/dry loud/quiet early/late strong/weak high/low near/far clean/dirty heavy/light"
    " true/false good/bad thick/thin wide/narrow first/last begin/end love/hate win/lose buy/sell push/pull"
)
PAST = _pairs(
    "go/went see/saw eat/ate take/took come/came give/gave write/wrote run/ran sing/sang buy/bought"
    " think/thought know/knew drive/drove find/found make/made speak/spoke break/broke fall/fell begin/began"
)
CAPITALS = _pairs(
    "France/Paris Italy/Rome Spain/Madrid Japan/Tokyo Egypt/Cairo Greece/Athens Russia/Moscow"
    " England/London Germany/Berlin Norway/Oslo Cuba/Havana Peru/Lima Austria/Vienna Poland/Warsaw"
)
USES = {
    "knife": "cut bread", "broom": "sweep the floor", "umbrella": "stay dry in the rain",
    "oven": "bake a cake", "key": "open a lock", "pen": "write a letter", "towel": "dry your hands",
    "soap": "wash your hands", "needle": "sew a button", "fridge": "keep food cold", "lamp": "light a room",
    "map": "find the way", "ladder": "reach the roof", "bucket": "carry water", "clock": "tell the time",
    "phone": "call a friend", "razor": "shave your face", "pillow": "rest your head", "rope": "tie a boat",
    "comb": "tidy your hair", "mop": "clean a wet floor", "kettle": "boil water", "spoon": "eat soup",
}  # fmt: skip
GOOD = _words(
    "great lovely excellent wonderful perfect delightful superb charming brilliant fantastic pleasant tasty"
)
BAD = _words(
    "awful terrible horrible boring dreadful poor disgusting broken useless rude disappointing filthy"
)
REVIEWED = _words("film hotel meal book room service concert soup game holiday show coffee song play trip")
REVIEWS = (
    "The {a} was {w}.", "What a day, and the {a} was so {w}!", "I found the {a} {w}, and so did my family.",
    "We thought the {a} was {w}.", "Honestly, I call that {a} {w}.", "The {a} is {w}, as everybody told me.",
    "The staff said it would be fine, but the {a} was {w}.",
    "My third visit, and again the {a} was simply {w}.",
    "I will tell all my friends how {w} the {a} is.",
)  # fmt: skip
LABELS = (("positive", "negative"), ("good", "bad"), ("happy", "unhappy"), ("praise", "criticism"))
"""Of good and bad reviews."""
TOPICS = {
    topic: tuple(texts.splitlines())
    for topic, texts in {
        "sport": """\
The team won the match {n} to 1.
She ran the marathon in a new record time.
The goalkeeper saved {n} shots.
The coach trains the players on {day}.
He scored twice before half time.
The cup final will be on {day}.""",
        "travel": """\
We booked a flight to {country}.
Our hotel is {n} minutes from the beach.
Pack your passport before you go to {country}.
The train to the mountains leaves on {day}.
A guide showed us the old town.
Tourists love the islands of {country}.""",
        "health": """\
The doctor told him to rest for {n} days.
Wash the wound and take this medicine.
She has had a fever since {day}.
The nurse measured his blood pressure.
Too much sugar is bad for your teeth.
His {body part} hurts and he sees a surgeon on {day}.""",
        "farming": """\
The {mammal} grazes on the field behind the barn.
We sow wheat in spring and reap in summer.
The tractor ploughed {n} acres.
Hens laid {n} eggs this morning.
Milk from our cows goes to the dairy on {day}.
The harvest in {country} was poor.""",
        "school": """\
The pupils write a test in {subject} on {day}.
Her teacher gave the class homework.
He studies {subject} for his exam.
The lesson lasts {n}0 minutes.
Bring your books to the classroom.
She got the best mark in {subject}.""",
        "space": """\
The rocket reached {planet} after {n} years.
Astronomers found a new moon of {planet}.
The telescope looks at distant stars.
Astronauts repaired the station in orbit.
A comet will pass the sun on {day}.
The probe sent {n} pictures of {planet}.""",
        "fashion": """\
This summer the {colour} {garment} is back.
The designer showed {n} dresses in silk.
That {garment} goes well with this {colour} coat.
Models wore wool on the catwalk.
Her {garment} is made of fine leather.
The tailor shortened the sleeves.""",
        "money": """\
The bank raised interest by {n} percent.
Shares fell on {day}.
He saves {n} dollars each week.
She owes {n}0 euros in taxes.
The price of {metal} doubled in a year.
Investors bought bonds from {country}.""",
    }.items()
}
SPEECHES = {
    "question": (
        "Where did {p} put the {t}?", "Is this the {t} of {p}?", "Who wants the {t}?", "How old is {p}?",
    ),
    "order": (
        "Give the {t} to {p}.", "Put the {t} away.", "Bring me the {t}!", "Do not touch the {t}, {p}.",
    ),
    "statement": ("{p} likes the {t}.", "The {t} is new.", "There was a {t} here.", "I met {p} today."),
}  # fmt: skip
SAYINGS = (
    "I am hungry.", "It is late.", "Where is my bag?", "The door is open.", "I like this song.",
    "We should go.", "That was fun.", "My feet hurt.", "It smells good.", "I lost my ticket.",
    "Call me later.", "Look at the sky!",
)  # fmt: skip
NOTES = {
    "phone": ("call {v}", "the number is {v}", "ring us under {v}"),
    "room": ("come to room {v}", "we sit in room {v}"),
    "person": ("ask for {v}", "{v} will help you", "say hello to {v}"),
    "country": ("the guests are from {v}", "it was sent from {v}"),
    "amount": ("bring {v}", "it costs {v}", "you still owe {v}"),
    "animal": ("do not feed the {v}", "the {v} lives there"),
    "colour": ("take the {v} door", "look for the {v} sign"),
}
"""What a note tells, and in which words."""
ASKED = (
    "\nQuestion: {q}\nAnswer:", "\n{q}", "\n\n{q} ->", "\n{q} Answer:",
    "\nTask: {q}\nResult:", "\n[{q}]", "\n{q}\nSolution:", "\nPlease tell me: {q}", " {q} =",
)  # fmt: skip
"""How a question stands after a text."""
AGAIN = ("\nSo ", "\nRepeat: ", "\nAs said, ", "\nIt says that ", " Indeed, ")
"""What stands before a sentence that is said again."""
