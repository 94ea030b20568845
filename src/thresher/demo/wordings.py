"""Wordings of questions, format instructions and answers: one set for the pool and evaluation, one
for pretraining.

The sets share words but no complete wording, so that a model's training does not contain the pool's
questions. Additional wordings for the last training stage are in more_wordings.py.
"""

from typing import Literal

from thresher.demo.more_wordings import INSTRUCTIONS as MORE_INSTRUCTIONS
from thresher.demo.more_wordings import QUESTIONS as MORE_QUESTIONS

WordingSet = Literal["pool", "pretraining", "refinement"]

# topic -> (wordings of the pool and evaluation, wordings of pretraining)
QUESTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "colour": (
        (
            "What colour is the {name}?",
            "Which colour does the {name} have?",
            ("What is the color of the {name}?"),
        ),
        (
            "Name the colour of the {name}.",
            "What color is the {name} in the image?",
            "The {name} has which color?",
            "Give the color of the {name}.",
            "What is the colour of the {name} here?",
        ),
    ),
    "shape": (
        (
            "What shape is the {colour} object?",
            "What is the {colour} shape?",
            "Which object is {colour}?",
        ),
        (
            "Name the shape of the {colour} object.",
            "What {colour} object is in the image?",
            "The {colour} object has which shape?",
            "Give the {colour} shape.",
            "What is the shape of the {colour} one?",
        ),
    ),
    "position": (
        ("Where is the {colour} {name}?", "In which part of the picture is the {colour} {name}?"),
        (
            "Find the {colour} {name}.",
            "Where in the image is the {colour} {name}?",
            "Give the place of the {colour} {name}.",
            "The {colour} {name} is in which part?",
        ),
    ),
    "existence": (
        (
            "Is there a {colour} {name} in the picture?",
            "Do you see a {colour} {name}?",
            "Does the image contain a {colour} {name}?",
        ),
        (
            "Is there a {colour} {name}?",
            "Can you see a {colour} {name} in the image?",
            "Is a {colour} {name} here?",
            "Does the picture have a {colour} {name}?",
        ),
    ),
    "count": (
        ("How many {things} are there?", "What is the number of {things} in the picture?"),
        (
            "Count the {things}.",
            "How many {things} do you see?",
            "Give the number of {things}.",
            "How many {things} are in the image?",
        ),
    ),
    "spatial": (
        (
            "Where is the {first} relative to the {second}?",
            ("On which side of the {second} is the {first}?"),
        ),
        (
            "Seen from the {second}, where is the {first}?",
            "The {first} is on which side of the {second}?",
            "Is the {first} left, right, above or below the {second}?",
        ),
    ),
    "comparison": (
        ("Are there more {first} or {second}?", "Which are more numerous, {first} or {second}?"),
        (
            "Which are more, {first} or {second}?",
            "{first} or {second}: which has more?",
            "Compare the number of {first} and {second}. Which are more?",
        ),
    ),
    "digits": (
        ("What number is written in the picture?", "Which number do you read?"),
        ("Read the number.", "What number is shown?", "Which number is in the image?"),
    ),
    "letters": (
        ("What letters are written in the picture?", "Which word do you read?"),
        ("Read the letters.", "What word is shown?", "Which letters are in the image?"),
    ),
    "chart_value": (
        ("How high is the {colour} bar?", "What value does the {colour} bar show?"),
        (
            "Give the value of the {colour} bar.",
            "The {colour} bar has which value?",
            "What is the height of the {colour} bar?",
        ),
    ),
    "chart_extreme": (
        ("Which bar is the {extreme}?", "What is the colour of the {extreme} bar?"),
        (
            "Name the {extreme} bar.",
            "Give the color of the {extreme} bar.",
            ("Which color is the {extreme} bar?"),
        ),
    ),
    "odd_one_out": (
        ("Which is the odd one out?", "What does not fit with the others?"),
        ("Find the odd one.", "What is different here?", "One object does not fit. Which?"),
    ),
    "logic": (
        (
            "Is there a {first} {operator} a {second} in the picture?",
            ("Do you see a {first} {operator} a {second}?"),
        ),
        (
            "Is there a {first} {operator} a {second}?",
            "Does the picture have a {first} {operator} a {second}?",
            "Can you see a {first} {operator} a {second} in the image?",
        ),
    ),
    "sum": (
        ("What is the sum of the two digits?", "What do the digits add up to?"),
        ("Add the digits.", "Give the sum of the digits.", "What is the sum of the digits shown?"),
    ),
    "larger": (
        ("Which of the two digits is larger?", "What is the larger digit?"),
        (
            "Give the larger digit.",
            "Name the larger of the digits.",
            ("Which digit shown is the larger one?"),
        ),
    ),
    "description": (
        (
            "Describe the picture.",
            "What does the picture show?",
            ("Write a short description of the image."),
        ),
        ("Give a caption.", "List what is in the image.", "Describe this image."),
    ),
}

# topic -> an answer as a sentence; existence and logic have one for yes and one for no
SENTENCES: dict[str, str] = {
    "colour": "The {name} is {answer}.",
    "shape": "The {colour} object is a {answer}.",
    "position": "The {colour} {name} is at the {answer}.",
    "existence": "{answer}, there is {article} {colour} {name}.",
    "count": "The number of {things} is {answer}.",
    "spatial": "The {first} is {relation} the {second}.",
    "comparison": "There are more {answer}.",
    "digits": 'It says "{answer}".',
    "letters": 'It says "{answer}".',
    "chart_value": "The {colour} bar is {answer} high.",
    "chart_extreme": "The {extreme} bar is {answer}.",
    "odd_one_out": "The odd one is {answer}.",
    "logic": "{answer}, that is {truth}.",
    "sum": "The sum is {answer}.",
    "larger": "The larger digit is {answer}.",
    "description": "{answer}",
}

# style -> (format instructions of the pool, of pretraining)
INSTRUCTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "word": (
        ("Answer using a single word or phrase.",),
        (
            "Give a short answer.",
            "Answer with one word.",
            "Use a single word.",
            "Reply with a word or phrase.",
        ),
    ),
    "yesno": (
        ("Answer with yes or no.",),
        ("Say yes or no.", "Yes or no?", "Reply yes or no."),
    ),
    "sentence": (
        ("Answer in a full sentence.",),
        ("Reply with a sentence.", "Use a full sentence.", "Give the answer as a sentence."),
    ),
    "steps": (
        ("Think step by step.",),
        ("Explain first, then answer.", "Reason in steps.", "Explain step by step."),
    ),
    "choice": (
        ("Answer with the option's letter from the given choices directly.",),
        (
            "Choose the right letter.",
            "Which option is right?",
            ("Answer with a letter from the choices."),
        ),
    ),
    "description": (("",), ("",)),
}


def question_wordings(topic: str, wording: WordingSet) -> tuple[str, ...]:
    """Templates of questions, with `Question.slots` in braces.

    Arguments:
        topic: of the question, a key of QUESTIONS.
        wording: the set to take them from.
    """
    pool, pretraining = QUESTIONS[topic]
    if wording == "refinement":
        return pretraining + MORE_QUESTIONS[topic]
    return pool if wording == "pool" else pretraining


def instruction_wordings(style: str, wording: WordingSet) -> tuple[str, ...]:
    """Texts that ask for a style of answer.

    Arguments:
        style: of answer, a key of INSTRUCTIONS.
        wording: the set to take them from.
    """
    pool, pretraining = INSTRUCTIONS[style]
    if wording == "refinement":
        return pretraining + MORE_INSTRUCTIONS[style]
    return pool if wording == "pool" else pretraining
