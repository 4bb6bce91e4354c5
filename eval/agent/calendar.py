"""calendar: arrange a meeting again. Row: one event."""

from eval.agent.tools import Argument, Domain, Tool
from fastpath.items.pools import CITIES, MEN, WOMEN

SPLITS = ("evaluation", "calibration", "distillation")
PREFIX = {"evaluation": "E", "calibration": "K", "distillation": "R"}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")

CALENDAR = Domain(
    name="calendar",
    key="event",
    known_as="event {event}",
    found_as='the event "{title}"',
    arguments={
        "event": Argument("string", {s: tuple(f"{PREFIX[s]}{n}" for n in range(100, 400)) for s in SPLITS},
                          ("event_id", "meeting")),
        "title": Argument(
            "string",
            {
                "evaluation": ("Team lunch", "Budget talk", "Sales review", "Job interview", "Safety course"),
                "calibration": ("Press call", "Design hour", "Board meeting", "Staff party"),
                "distillation": ("Book club", "Launch day", "Tax advice", "Garden tour"),
            },
            ("name", "label"),
        ),
        "seats": Argument("integer", {s: tuple(range(4, 40)) for s in SPLITS}),
        "room": Argument("string", {s: tuple(CITIES[s]) for s in SPLITS}, ("place", "hall")),
        "day": Argument("string", {s: DAYS for s in SPLITS}, ("date", "weekday")),
        "hour": Argument("integer", {s: tuple(range(8, 18)) for s in SPLITS}, ("time", "start")),
        "person": Argument("string", {s: tuple(WOMEN[s] + MEN[s]) for s in SPLITS}, ("guest", "name")),
        "remind": Argument("boolean", {}, ("reminder", "alarm")),
        "length": Argument("integer", {s: (30, 45, 60, 90) for s in SPLITS}, ("minutes", "duration")),
        "meals": Argument("integer", {s: tuple(range(3, 25)) for s in SPLITS}, ("count", "portions")),
    },
    facts={"title": "title", "seats": "seats"},
    steps=(
        Tool(name="find_event", does="find an event by its title", takes=("title",), says="event {event}",
             asks=("find it", "look it up", "search for it", "get its number")),
        Tool(name="read_event", does="show an event", takes=("event",), needs="find_event",
             says="{seats} seats", asks=("read it", "open it", "have a look at it", "view it")),
        Tool(name="book_room", does="book a room for an event", takes=("event", "room"), needs="read_event",
             says="{room} is booked", asks=("book the room {room}", "reserve room {room}",
                                            "take the room {room}", "ask for room {room}")),
        Tool(name="set_day", does="put an event on a day", takes=("event", "day"), needs="book_room",
             says="on {day}", asks=("move it to {day}", "set the day to {day}", "shift it to {day}",
                                    "have it on {day}")),
        Tool(name="set_hour", does="let an event begin at an hour", takes=("event", "hour"), needs="set_day",
             says="at {hour}:00", asks=("let it begin at hour {hour}", "set the hour to {hour}",
                                        "start it at hour {hour}", "have it at hour {hour}")),
        Tool(name="invite", does="send someone an invitation", takes=("event", "person", "remind"),
             needs="set_hour", says="{person} is invited", reversible=False,
             asks=("invite {person} with remind {remind}", "send {person} an invitation, remind {remind}",
                   "ask {person} to come (remind: {remind})", "write to {person}, remind is {remind}")),
        Tool(name="set_length", does="say how many minutes an event takes", takes=("event", "length"),
             needs="invite", says="{length} minutes",
             asks=("set the length to {length}", "let it take {length} minutes",
                   "make it {length} minutes long", "end it after {length} minutes")),
        Tool(name="order_meals", does="buy meals for an event", takes=("event", "meals"), needs="set_length",
             says="{meals} meals are ordered", reversible=False,
             asks=("order {meals} meals", "buy {meals} meals", "get {meals} meals", "pay for {meals} meals")),
    ),
    decoys=(
        Tool(name="color_event", does="give an event a color", takes=("event",), says="colored"),
        Tool(name="swap_room", does="give an event another room", takes=("event", "room"), says="swapped"),
        Tool(name="cancel_event", does="tell everyone that an event is off", takes=("event",),
             reversible=False, says="cancelled"),
        Tool(name="disinvite", does="tell someone not to come", takes=("event", "person"), reversible=False,
             says="told"),
    ),
)  # fmt: skip
