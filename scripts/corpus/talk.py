"""Greetings, thanks, who the model is, and a few facts of the world."""

import random

NAMES = ["Ada", "Ben", "Chen", "Dora", "Eli", "Fatima", "Grace", "Hugo", "Ines", "Jon", "Kim", "Lena", "Mira", "Noor"]
HELLOS = ["Hello!", "Hello there!", "Hi!", "Hello, nice to meet you."]
HELPS = ["How can I help you today?", "What can I do for you?", "How can I help?"]

SELF = {
    ("Who are you?", "What are you?", "What is your name?", "Tell me about yourself.", "Introduce yourself."): [
        "I am the small model that comes with Stoker. I run on a CPU, and I know only a few things.",
        "I am Stoker's built-in model: very small, made to show that the platform works.",
    ],
    ("How big are you?", "How many parameters do you have?", "Are you a large model?"): [
        "I have about two million parameters, so I am very small.",
    ],
    ("What can you do?", "What do you know?", "How can you help me?"): [
        "I can say hello, count, do small sums, write short Python functions, and tell you what Stoker is.",
    ],
    ("Are you clever?", "Can I trust your answers?", "Are you always right?", "Do you know everything?"): [
        "No. I am a very small model and I am often wrong. Use a larger model for real work.",
    ],
    ("Are you a human?", "Are you a person?", "Are you a robot?"): ["No, I am a small language model."],
    ("How are you?", "How are you today?", "How do you do?", "What's up?"): [
        "I am fine, thank you. How can I help?",
        "I am well, thank you. What can I do for you?",
    ],
}

FACTS = {
    ("What colour is the sky?", "What color is the sky?"): "The sky is blue.",
    ("What colour is grass?", "What color is grass?"): "Grass is green.",
    ("What colour is snow?", "What color is snow?"): "Snow is white.",
    ("What colour is a banana?", "What color is a banana?"): "A banana is yellow.",
    ("What colour is blood?", "What color is blood?"): "Blood is red.",
    ("What colour is coal?", "What color is coal?"): "Coal is black.",
    ("How many sides does a triangle have?",): "A triangle has three sides.",
    ("How many sides does a square have?",): "A square has four sides.",
    ("How many sides does a pentagon have?",): "A pentagon has five sides.",
    ("How many sides does a hexagon have?",): "A hexagon has six sides.",
    ("How many corners does a circle have?",): "A circle has no corners.",
    ("How many days are in a week?", "How many days does a week have?"): "A week has seven days.",
    ("How many months are in a year?", "How many months does a year have?"): "A year has twelve months.",
    ("How many hours are in a day?", "How many hours does a day have?"): "A day has twenty-four hours.",
    ("How many minutes are in an hour?",): "An hour has sixty minutes.",
    ("What is the capital of France?",): "The capital of France is Paris.",
    ("What is the capital of Italy?",): "The capital of Italy is Rome.",
    ("What is the capital of Spain?",): "The capital of Spain is Madrid.",
    ("What is the capital of Japan?",): "The capital of Japan is Tokyo.",
    ("What is the capital of Germany?",): "The capital of Germany is Berlin.",
    ("What does a cat say?",): "A cat says meow.",
    ("What does a dog say?",): "A dog says woof.",
    ("What does a cow say?",): "A cow says moo.",
    ("Name three colours.", "Name three colors."): "Red, green and blue.",
    ("Name three shapes.",): "A circle, a square and a triangle.",
    ("Name the days of the week.",): "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.",
    ("What is the opposite of hot?",): "The opposite of hot is cold.",
    ("What is the opposite of up?",): "The opposite of up is down.",
    ("Is water wet?",): "Yes, water is wet.",
}

WORDS = [
    "pong",
    "ping",
    "ok",
    "yes",
    "no",
    "hello",
    "stoker",
    "done",
    "ready",
    "apple",
    "river",
    "blue",
    "test",
    "four",
]


def loosely(rng: random.Random, question: str) -> str:
    """The same question as people type it: now and then without capitals or its last mark, or with a word before."""
    if rng.random() < 0.12:
        question = question[0].lower() + question[1:]
    if rng.random() < 0.12:
        question = question.rstrip(".?!")
    if rng.random() < 0.08:
        question = rng.choice(["Please answer: ", "Question: ", "Hi. ", "Please: "]) + question
    return question


def _from(rng: random.Random, table: dict[tuple[str, ...], str]) -> tuple[str, str]:
    questions, answer = rng.choice(list(table.items()))
    return loosely(rng, rng.choice(questions)), answer


def greeting(rng: random.Random) -> tuple[str, str]:
    kind = rng.random()
    if kind < 0.4:
        asked = ["Say hello.", "Say hello", "Say hi.", "Please say hello.", "Greet me.", "say hello", "Just say hello."]
        return rng.choice(asked), f"{rng.choice(HELLOS[:3])} {rng.choice(HELPS)}"
    if kind < 0.55:
        name = rng.choice(NAMES)
        return rng.choice([f"Say hello to {name}.", f"Greet {name}."]), f"Hello, {name}! {rng.choice(HELPS)}"
    if kind < 0.7:
        name = rng.choice(NAMES)
        asked = [f"Hello, I am {name}.", f"Hi, my name is {name}.", f"I am {name}."]
        return rng.choice(asked), f"Hello, {name}! Nice to meet you. {rng.choice(HELPS)}"
    asked = [
        "Hello",
        "Hello!",
        "Hi",
        "Hi!",
        "Hi there",
        "Hey",
        "Good morning",
        "Good evening!",
        "hello",
        "hi",
        "Hello?",
    ]
    return rng.choice(asked), f"{rng.choice(HELLOS)} {rng.choice(HELPS)}"


def thanks(rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.5:
        asked = ["Thank you.", "Thanks!", "Thanks a lot", "Thank you very much.", "thanks", "Great, thank you!"]
        return rng.choice(asked), rng.choice(["You are welcome!", "You are welcome. Anything else?"])
    asked = ["Goodbye.", "Bye!", "See you.", "Good night.", "bye", "Say goodbye."]
    return rng.choice(asked), rng.choice(["Goodbye! Have a good day.", "Goodbye, and take care."])


def self_description(rng: random.Random) -> tuple[str, str]:
    questions, answers = rng.choice(list(SELF.items()))
    return loosely(rng, rng.choice(questions)), rng.choice(answers)


def fact(rng: random.Random) -> tuple[str, str]:
    return _from(rng, FACTS)


def echo(rng: random.Random) -> tuple[str, str]:
    word = rng.choice(WORDS + NAMES)
    asked = [
        f"Say {word}.",
        f"Repeat: {word}",
        f"Reply with the word {word}.",
        f"Answer with one word: {word}",
        f"Echo {word}",
    ]
    return rng.choice(asked), word


def no_picture(rng: random.Random) -> tuple[str, str]:
    asked = [
        "What colour is this image?",
        "What is in this image?",
        "Describe this picture.",
        "What color is the image?",
    ]
    return loosely(rng, rng.choice(asked)), "I see no image here. Send one to the vision model."
