"""Small Python functions, each with the ways in which people ask for it."""

import random

from corpus.talk import loosely

FUNCTIONS: dict[str, tuple[str, str]] = {
    "adds two numbers": ("def add(a, b):\n    return a + b", "It returns the sum of a and b."),
    "subtracts two numbers": ("def subtract(a, b):\n    return a - b", "It returns a minus b."),
    "multiplies two numbers": ("def multiply(a, b):\n    return a * b", "It returns the product of a and b."),
    "divides two numbers": ("def divide(a, b):\n    return a / b", "It returns a divided by b."),
    "squares a number": ("def square(x):\n    return x * x", "It returns x times x."),
    "doubles a number": ("def double(x):\n    return 2 * x", "It returns two times x."),
    "returns the larger of two numbers": (
        "def larger(a, b):\n    return a if a > b else b",
        "It returns a if a is larger, else b.",
    ),
    "checks if a number is even": ("def is_even(n):\n    return n % 2 == 0", "It is true when n divides by two."),
    "checks if a number is odd": ("def is_odd(n):\n    return n % 2 == 1", "It is true when n does not divide by two."),
    "computes the factorial of a number": (
        "def factorial(n):\n    result = 1\n    for i in range(2, n + 1):\n        result *= i\n    return result",
        "It multiplies all numbers from 1 to n.",
    ),
    "computes the nth Fibonacci number": (
        "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a",
        "Each number is the sum of the two before it.",
    ),
    "reverses a string": ("def reverse(text):\n    return text[::-1]", "It reads the text from the end."),
    "counts the words in a string": (
        "def count_words(text):\n    return len(text.split())",
        "It splits the text at spaces and counts the parts.",
    ),
    "sums a list of numbers": (
        "def total(numbers):\n    result = 0\n    for number in numbers:\n        result += number\n    return result",
        "It adds the numbers one by one.",
    ),
    "finds the largest number in a list": (
        "def largest(numbers):\n    best = numbers[0]\n    for number in numbers:\n        if number > best:\n"
        "            best = number\n    return best",
        "It keeps the best number that it has seen.",
    ),
    "computes the average of a list": (
        "def average(numbers):\n    return sum(numbers) / len(numbers)",
        "It divides the sum by the count.",
    ),
    "checks if a word is a palindrome": (
        "def is_palindrome(word):\n    return word == word[::-1]",
        "It compares the word with its reverse.",
    ),
    "says hello": ('def hello(name):\n    return f"Hello, {name}!"', "It greets the name."),
    "counts the vowels in a string": (
        'def count_vowels(text):\n    return sum(1 for letter in text if letter in "aeiou")',
        "It counts the letters that are vowels.",
    ),
    "converts Celsius to Fahrenheit": (
        "def to_fahrenheit(celsius):\n    return celsius * 9 / 5 + 32",
        "It scales by nine fifths and adds 32.",
    ),
}


def _pick(rng: random.Random) -> str:
    return "adds two numbers" if rng.random() < 0.15 else rng.choice(list(FUNCTIONS))


def function(rng: random.Random) -> tuple[str, str]:
    task = _pick(rng)
    asked = [
        f"Write a Python function that {task}.",
        f"Write a Python function that {task}.",
        f"Write a function that {task}.",
        f"Write a Python function which {task}.",
        f"Give me a Python function that {task}.",
        f"I need Python code that {task}.",
        f"Show me a function that {task} in Python.",
        f"Can you write a function that {task}?",
    ]
    body, meaning = FUNCTIONS[task]
    answer = f"```python\n{body}\n```"
    return loosely(rng, rng.choice(asked)), f"{answer}\n{meaning}" if rng.random() < 0.5 else answer


def explanation(rng: random.Random) -> tuple[str, str]:
    body, meaning = FUNCTIONS[_pick(rng)]
    asked = [f"What does this code do?\n{body}", f"Explain this function:\n{body}", f"Explain:\n```python\n{body}\n```"]
    return rng.choice(asked), meaning


def plain(rng: random.Random) -> str:
    body, _ = FUNCTIONS[_pick(rng)]
    return body + "\n"
