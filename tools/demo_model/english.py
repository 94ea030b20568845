"""English sentences written for this package, to train the tokenizer and, a little, the model.

This is not a language-modelling corpus; it only keeps the tokenizer from splitting common words
into bytes.
"""

SENTENCES: tuple[str, ...] = (
    "A young woman is riding a bicycle along the street near the river.",
    "The man in the blue shirt is holding a small black dog.",
    "Two children are playing with a ball on the green grass.",
    "There is a large white boat on the water behind the bridge.",
    "What is the person on the left side of the image doing?",
    "The title of the book is written in large letters at the top of the page.",
    "Please describe the image in detail and explain what is unusual about it.",
    "The chart shows the number of people who visited the museum each year.",
    "According to the table, which country has the highest value?",
    "The total cost is the price of one item times the number of items.",
    "First, we find the length of the side. Then we compute the area of the rectangle.",
    "How many of the following objects are visible in the background of this photo?",
    "Is the train moving or is it standing at the station?",
    "The cat is sleeping on a brown couch next to an open window.",
    "Which of the statements about the diagram is correct? Explain your answer.",
    "You are a helpful assistant that answers questions about pictures.",
    "Rate the quality of this answer on a scale from one to ten.",
    "Does the answer follow the question? Is the question clear and relevant to the image?",
    "The sign on the wall says that parking is not allowed here.",
    "A plate with food, a glass of water and a fork are on the wooden table.",
    "The weather looks sunny, because there are strong shadows on the ground.",
    "Based on the information in the document, when was the letter sent?",
    "If the angle at the top is known, the other two angles can be calculated.",
    "I can not see any text in this picture, so I do not know the answer.",
    "Some of the people are standing while others are sitting around the table.",
    "The color of the car in front of the house is dark red.",
    "It should be noted that the result would have been different without this change.",
    "Answer the question using a single word or phrase.",
    "Answer with the option's letter from the given choices directly.",
    "Answer with yes or no. Answer in a full sentence. Think step by step.",
    "What shape does the image contain? Is there not a gray shape? Does the image contain a teal "
    "circle?",
    "What is the black shape? What is the color of the brown rectangle?",
    "Each of these pages was made by hand and then sent to a friend in another town.",
    "We went there again last week, but the door was closed and nobody was home.",
    "Good data are worth more than many data, and a few clear examples teach more than a long "
    "rule.",
    "The first picture shows a kitchen, the second picture shows a garden with flowers and trees.",
    "Compare the first image with the second image. Which image has more objects?",
    "Read the text in the image and write it down. Give the coordinates of the object.",
)
