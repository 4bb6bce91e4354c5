"""routing: a customer's message, which of six teams is it for? Team names never occur in a message."""

from fastpath.items.item import Draw, Item, template_id
from fastpath.items.pools import fill

LABELS = ("finance", "shipping", "hiring", "law", "security", "software")

# One body a template: the evaluation split has 7 a label, the others 3.
BODIES = {
    "evaluation": {
        "finance": [
            "I was charged {m} twice for my {p}.",
            "There is an extra {m} on my card statement since {d}. What is it for?",
            "My last payment shows {m} but the price was {m2}.",
            "Please send me a receipt for the {m} that I paid on {d}.",
            "The discount of {q} percent was not taken off my total of {m}.",
            "Can I pay the {m} in {q} monthly amounts?",
            "You took {m} from my bank account for the {p} that I had cancelled.",
        ],
        "shipping": [
            "Where is my {p}? It should have arrived in {c} on {d}.",
            "The tracking number {k} for my parcel does not change.",
            "Can you send the {p} to my new address in {c} by {d}?",
            "My package says delivered to {c}, but nothing came on {d}.",
            "How many days does a parcel to {c} take? I ordered a {p} on {d}.",
            "The courier left my {p} with a stranger in {c} on {d}.",
            "Please hold parcel {k} at the depot until {d}, I am away.",
        ],
        "hiring": [
            "I would like to apply for the job of driver in {c}. My CV is attached. {n}",
            "Is the position of analyst in {c} still open? I could start on {d}.",
            "When will I hear about my interview of {d} in {c}? {n}",
            "Do you have vacancies for nurses in {c}? I have {q} years of experience. {n}",
            "I am a student looking for an internship of {q} months in {c}. {n}",
            "Attached are my CV and {q} references for the post of cook. {n}",
            "What salary do you offer a new engineer in {c} with {q} years of experience? {n}",
        ],
        "law": [
            "My attorney {n} says that clause {q} of our contract is not valid.",
            "{f} has copied our patent {k}. We want to sue them in {c}.",
            "We received a court summons from {c} dated {d}.",
            "Who may sign the licence terms with {f} before {d}?",
            "Does the new privacy act in {c} apply to us from {d}?",
            "{n} threatens to go to court over the {p} that broke.",
            "Is it a breach of contract if {f} delivers after {d}?",
        ],
        "security": [
            "Someone logged in to my account from {c} on {d}. It was not me.",
            "I got a strange email from {n} on {d} asking for my password.",
            "I lost my badge number {k}. Please block it, anyone could get in.",
            "A man without a pass was seen near the server room at {q} pm. {n}",
            "My laptop was stolen in {c} on {d}. It holds {q}00 customer files.",
            "I think that hackers have read our mails in {c} since {d}.",
            "I clicked on a link from {f} and now a virus asks for {m}.",
        ],
        "software": [
            "The app crashes with code {k} each time I open page {q}.",
            "My {p} shows error {k} and will not start.",
            "The screen of my {p} has been black since the update of {d}.",
            "I cannot connect my {p} to the wifi, it stops at step {q}, code {k}.",
            "Your website is very slow in {c} since {d}, pages take {q}0 seconds to load.",
            "The program freezes with error {k} when I print more than {q} pages.",
            "Uploading a file of {q}0 MB fails with code {k}.",
        ],
    },
    "calibration": {
        "finance": [
            "Why did you take {m} from my card on {d}? I owe only {m2}.",
            "I want my {m} back, I was charged for a {p} that I never bought.",
            "My bank refused the payment of {m} on {d}. Can I use another card?",
        ],
        "shipping": [
            "My parcel {k} has been stuck in {c} since {d}.",
            "The {p} was sent to the wrong address in {c} on {d}.",
            "Can the courier bring my {p} after {q} pm on {d}?",
        ],
        "hiring": [
            "I saw your job advert for a clerk in {c}. Here is my CV. {n}",
            "How do I apply for the vacancy number {k} in {c}?",
            "I am {n} and I want to work for you in {c} from {d}.",
        ],
        "law": [
            "The judge in {c} has set the trial against {f} for {d}.",
            "May we use the trademark of {f} without their consent in {c} from {d}?",
            "Our contract with {f} ends on {d}. Can they sue us?",
        ],
        "security": [
            "My password was changed on {d} and I did not do it. {n}",
            "Somebody broke into the office in {c} on {d} and took {q} laptops.",
            "A caller who gave the name {n} asked for my secret PIN on {d}.",
        ],
        "software": [
            "The program stops with error {k} after {q} minutes.",
            "My {p} does not turn on since the update of {d}.",
            "The page will not load in {c}, I only see code {k}.",
        ],
    },
    "distillation": {
        "finance": [
            "My monthly fee went from {m} to {m2}. Why?",
            "I paid {m} on {d} but you still send me reminders.",
            "Please correct the tax on my payment of {m} for the {p}.",
        ],
        "shipping": [
            "Half of my order {k} is missing, only the {p} came to {c}.",
            "When does parcel {k} leave the warehouse in {c}?",
            "The box with my {p} was left in the rain in {c} on {d}.",
        ],
        "hiring": [
            "My name is {n}. Is there any work for a welder in {c}?",
            "I have sent my CV {q} times for the post of guard in {c}. {n}",
            "Could we move my job interview to {d}? {n}",
        ],
        "law": [
            "{n} wants us to sign a settlement of {m} out of court.",
            "Which clause of the contract with {f} covers damage of {m}?",
            "An attorney of {f} asks for our files by {d}.",
        ],
        "security": [
            "I found a hidden camera in the office in {c} on {d}.",
            "There were {q}0 failed logins on my account from {c} on {d}.",
            "I got a fake mail from {f} on {d} with a file that looks like a virus.",
        ],
        "software": [
            "After {q} minutes the video turns green, error {k}.",
            "The {p} keeps restarting since {d}.",
            "The search button does nothing, I tried {q} browsers on {d}.",
        ],
    },
}


def routing(draw: Draw) -> Item:
    """One message for a dealt team; templates are dealt within the team."""
    label = draw.deal("label", LABELS)
    bodies = BODIES[draw.split][label]
    body = draw.deal(label, bodies, turn=draw.index // len(LABELS))
    text = fill(body, draw.rng, draw.split)
    prompt = f"{text}\n\nTopic:"
    return draw.item(prompt=prompt, choices=LABELS, answer=label, template=template_id(body))
