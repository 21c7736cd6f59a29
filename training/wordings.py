"""In which words things are asked: by hand, and joined from openings and what is wanted.

A language model that is frozen learns little but the vectors that it reads; the more ways it is asked in, the less
they lean on one of them. The held-out split's wordings are all by hand, and joining makes none of them.
"""

from __future__ import annotations

# Task → wordings. {thing}, {things}, {colour}, {place}, {other} are filled in.
_WRITTEN: dict[str, tuple[str, ...]] = {
    "colour": (
        "What color is the {thing}?", "What colour is the {thing}?", "Which color does the {thing} have?",
        "Tell me the color of the {thing}.", "What is the color of the {thing}?", "In what color is the {thing} drawn?",
        "Look at the {thing}: what color is it?", "There is a {thing}. Which color is it?", "{thing}: which color?",
        "Say which color the {thing} has.", "What is the {thing}'s color?",
        "I need the color of the {thing}.", "Which colour has the {thing} been given?",
    ),
    "background": (
        "What color is the background?", "What is the background colour?", "Which color is the background?",
        "Tell me the color of the background.", "On what color is it drawn?",
        "What is the color behind the drawing?", "Which colour fills the background?", "Background color?",
        "Say which color the background has.", "What color is behind it all?",
    ),
    "shape": (
        "What shape is this?", "What is shown in the picture?", "What do you see?", "Which shape is in the image?",
        "What object is in this image?", "Tell me what is drawn here.", "What is it?", "Which thing is drawn here?",
        "Identify the object.", "Say what is in the picture.",
    ),
    "shape of colour": (
        "What is {colour}?", "Which thing is {colour}?", "What is the {colour} thing?", "Which shape is {colour}?",
        "Tell me what is {colour}.", "Something is {colour}. What is it?", "Which object is {colour}?",
        "Identify the {colour} object.", "What has the color {colour}?", "What do you see in {colour}?",
        "Say which thing is {colour}.", "What kind of thing is drawn in {colour}?",
    ),
    "count": (
        "How many {things} are there?", "How many {things} are in the picture?", "Count the {things}.",
        "How many {things} do you see?", "How many {things} can be seen?", "Tell me how many {things} there are.",
        "Give me the number of {things}.", "{things}: how many?", "How many {things} does the image contain?",
        "I want to know how many {things} were drawn.", "How often does one see {things} here?",
    ),
    "count all": (
        "How many things are there?", "How many objects are in the picture?", "How many shapes are there in total?",
        "Count the objects.", "How many things do you see?", "Tell me how many objects there are.",
        "Give me the number of things.", "How many things were drawn?", "How many objects does the image contain?",
        "Count everything in the picture.", "In all, how many things are there?",
    ),
    "position": (
        "Where is the {thing}?", "Where in the picture is the {thing}?", "What is the position of the {thing}?",
        "In which part of the image is the {thing}?", "Tell me where the {thing} is.", "The {thing} is where?",
        "At which place is the {thing}?", "Where do you see the {thing}?", "Locate the {thing}.",
        "Where has the {thing} been drawn?", "Say where the {thing} is.", "{thing}: where is it?",
    ),
    "what at": (
        "What is at the {place}?", "What do you see at the {place}?", "Which thing is at the {place}?",
        "Tell me what is at the {place}.", "Look at the {place}: what is there?", "Identify the object at the {place}.",
        "What has been drawn at the {place}?", "Which object is placed at the {place}?", "The {place} shows what?",
        "Say what is at the {place}.",
    ),
    "relation": (
        "Is the {thing} {side} the {other}?", "Is the {thing} {side} the {other} in the picture?",
        "Does the {thing} lie {side} the {other}?", "Tell me if the {thing} is {side} the {other}.",
        "Look at the {thing}: is it {side} the {other}?", "Is it true that the {thing} is {side} the {other}?",
        "Was the {thing} drawn {side} the {other}?",
    ),
    "size": (
        "Is the {thing} small or large?", "What size is the {thing}?", "How big is the {thing}?",
        "Tell me the size of the {thing}.", "Is it a small or a large {thing}?", "The {thing} has which size?",
        "Was the {thing} drawn small or large?", "How large is the {thing}?",
    ),
    "presence": (
        "Is there a {thing}?", "Is there a {thing} in the picture?", "Do you see a {thing}?",
        "Does the image show a {thing}?", "Tell me if there is a {thing}.", "Has a {thing} been drawn?",
        "Is a {thing} among the objects?", "Does one see a {thing} here?", "Is any {thing} in the image?",
        "Look for a {thing}: is there one?", "Is it true that the picture has a {thing}?",
    ),
    "kind": (
        "What kind of picture is this?", "What type of image is this?", "What kind of image is this?",
        "Tell me the kind of picture.", "Is this a chart, a form or something else?",
        "What type of picture do you see?",
    ),
    "word": (
        "What does it say?", "What word is written here?", "Read the word.", "What is written in the picture?",
        "Which word do you see?", "Tell me the word.", "What text is in the image?", "Transcribe the text.",
        "Say which word is written.", "The picture shows which word?", "What word is this?",
    ),
    "letter": (
        "Which letter is this?", "What letter do you see?", "What letter is shown?", "Tell me the letter.",
        "Read the letter.", "Which letter is drawn here?", "Identify the letter.", "The picture shows which letter?",
    ),
    "digit": (
        "Which digit is this?", "What digit is shown?", "What number is this?", "What number do you see?",
        "Tell me the digit.", "Read the digit.", "Which digit is drawn here?", "Identify the digit.",
    ),
    "number": (
        "What number is this?", "What number do you see?", "Which number is shown?", "Read the number.",
        "Tell me the number.", "Which number is drawn here?", "Identify the number.", "Transcribe the number.",
    ),
    "chart count": (
        "How many {things} does the chart have?", "How many {things} are there?", "How many {things} do you see?",
        "Tell me how many {things} the chart shows.", "Give me the number of {things}.",
    ),
    "chart most": (
        "Which color is the {superlative} {thing}?", "What color is the {superlative} {thing}?",
        "Tell me the color of the {superlative} {thing}.", "In which color is the {superlative} {thing} drawn?",
        "What is the color of the {superlative} {thing}?", "Look at the {superlative} {thing}: which color is it?",
    ),
    "trend": (
        "Does the line go up or down?", "Is the line rising or falling?", "Tell me if the line goes up or down.",
        "Where does the line go, up or down?", "Is the trend up or down?",
    ),
    "check box": (
        "Is the check box ticked?", "Is the checkbox checked?", "Tell me if the check box is ticked.",
        "Is there a tick in the check box?", "Look at the check box: is it ticked?",
    ),
    "form fields": (
        "How many text fields are there?", "How many fields does the form have?", "Count the text fields.",
        "Tell me how many fields there are.", "Give me the number of text fields.",
    ),
    "describe": (
        "Describe the image.", "Describe this picture.", "What is in this image?", "Describe what you see.",
        "What's in the picture?", "Tell me about this picture.", "Give me a caption.",
        "What does the picture look like?",
    ),
}  # fmt: skip
_CLAUSES: dict[str, tuple[str, ...]] = {
    "colour": ("what color the {thing} is", "which color the {thing} has", "how the {thing} is colored"),
    "background": ("what color the background is", "which color is behind the drawing"),
    "shape": ("what is drawn here", "what the picture shows", "which thing this is", "what this is"),
    "shape of colour": ("what is {colour}", "which thing is {colour}", "what the {colour} object is"),
    "count": ("how many {things} there are", "how many {things} you see", "how many {things} were drawn"),
    "count all": ("how many objects there are", "how many things you see", "how many things were drawn"),
    "position": ("where the {thing} is", "where the {thing} was drawn", "in which part of the picture the {thing} is"),
    "what at": ("what is at the {place}", "what you see at the {place}", "which object is at the {place}"),
    "size": ("how large the {thing} is", "if the {thing} is small or large", "which size the {thing} has"),
    "kind": ("what kind of picture this is", "which type of image this is"),
    "word": ("what is written here", "which word this is", "what the text says"),
    "letter": ("which letter this is", "what letter is shown"),
    "digit": ("which digit this is", "what digit is shown", "which number this is"),
    "number": ("which number this is", "what number is shown"),
    "chart count": ("how many {things} the chart has", "how many {things} there are"),
    "chart most": ("what color the {superlative} {thing} is", "which color the {superlative} {thing} has"),
    "trend": ("if the line goes up or down", "whether the line is rising or falling"),
    "form fields": ("how many text fields there are", "how many fields the form has"),
}  # fmt: skip
_NOUNS: dict[str, tuple[str, ...]] = {
    "colour": ("the color of the {thing}", "the {thing}'s color"),
    "background": ("the color of the background", "the background color"),
    "shape": ("the object in the picture", "the thing that is shown"),
    "shape of colour": ("the object that is {colour}", "the {colour} thing"),
    "count": ("the number of {things}", "the count of {things}"),
    "count all": ("the number of objects", "the count of all things"),
    "position": ("the place of the {thing}", "the position of the {thing}", "the location of the {thing}"),
    "what at": ("the object at the {place}", "the thing at the {place}"),
    "size": ("the size of the {thing}",),
    "kind": ("the type of the picture",),
    "word": ("the word in the picture", "the written word", "the text"),
    "letter": ("the letter in the picture", "this letter"),
    "digit": ("the digit in the picture", "this number"),
    "number": ("the number in the picture", "this number"),
    "chart count": ("the number of {things}",),
    "chart most": ("the color of the {superlative} {thing}",),
    "form fields": ("the number of text fields",),
}  # fmt: skip
_CLAIMS: dict[str, tuple[str, ...]] = {
    "relation": ("the {thing} is {side} the {other}", "the {thing} lies {side} the {other}"),
    "presence": (
        "there is a {thing}",
        "the image has a {thing}",
        "a {thing} was drawn",
        "a {thing} can be seen",
    ),
    "check box": ("the check box is ticked", "there is a tick in the check box"),
}
_BEFORE_CLAUSES = (
    "Tell me {}.", "Could you say {}?", "I want to know {}.", "Please tell me {}.", "Let me know {}.", "I wonder {}.",
    "Do you know {}?", "Find out {}.", "Are you able to tell {}?", "It would help to know {}.",
)  # fmt: skip
_BEFORE_NOUNS = (
    "Tell me {}.", "Give me {}.", "State {}.", "I need {}.", "Please give {}.", "Could you give me {}?", "Report {}.",
    "I would like to know {}.", "Please find {}.", "Write down {}.", "Determine {}.",
)  # fmt: skip
_BEFORE_CLAIMS = (
    "Is it true that {}?", "Tell me if {}.", "Check whether {}.", "Is it correct that {}?", "I think {}. Is that so?",
    "Decide whether {}.", "Could it be that {}?", "Please tell me whether {}.", "I wonder if {}.",
    "Do you agree that {}?", "Is it right to say that {}?",
)  # fmt: skip
_OPENINGS = (
    "Look at the picture. {}", "Question: {}", "Here is a picture. {}", "One question: {}", "Hello! {}",
    "{} Thank you.", "About the image: {}", "Look closely. {}",
)  # fmt: skip
_BY_HAND = 3  # how often a wording by hand stands beside its joined ones


def _joined(task: str) -> tuple[str, ...]:
    """A task's wordings by hand, as they are and behind openings, and those that are put together."""
    parts = ((_CLAUSES, _BEFORE_CLAUSES), (_NOUNS, _BEFORE_NOUNS), (_CLAIMS, _BEFORE_CLAIMS))
    joined = [
        before.replace("{}", wanted)
        for table, befores in parts
        for wanted in table.get(task, ())
        for before in befores
    ]
    opened = [opening.replace("{}", wording) for wording in _WRITTEN[task] for opening in _OPENINGS]
    # As many of each sort, whatever their numbers.
    by_hand = _WRITTEN[task] * max(_BY_HAND, (len(joined) + len(opened)) // (2 * len(_WRITTEN[task])))
    return (*by_hand, *joined, *opened)


HELD_OUT_WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": ("The {thing} is what color?", "Please name the color of the {thing}."),
    "background": ("Please name the color of the background.", "What color lies behind everything?"),
    "shape": ("Please name the thing in this picture.", "What does this image show?"),
    "shape of colour": ("Name the thing that is {colour}.", "What in the image is {colour}?"),
    "count": ("What is the number of {things}?", "Can you count how many {things} there are?"),
    "count all": ("What is the total number of objects?", "Can you count how many things there are?"),
    "position": ("Whereabouts is the {thing}?", "Can you tell me where the {thing} is?"),
    "what at": ("Name what is at the {place}.", "Can you tell me what is at the {place}?"),
    "relation": ("Would you say the {thing} is {side} the {other}?",),
    "size": ("Would you say the {thing} is small or large?",),
    "presence": ("Can you find a {thing}?", "Does this contain a {thing}?"),
    "kind": ("Which sort of picture is it?",),
    "word": ("Please read what is written.", "Which word can you read here?"),
    "letter": ("Please name this letter.", "Which letter can you read?"),
    "digit": ("Please name this digit.", "Which digit can you read?"),
    "number": ("Please read this number.", "Which number can you read?"),
    "chart count": ("Count the {things} of the chart.",),
    "chart most": ("The {superlative} {thing} has which color?",),
    "trend": ("Would you say that the line rises or falls?",),
    "check box": ("Has the check box been ticked?",),
    "form fields": ("Can you count the text fields?",),
    "describe": ("Please describe this image.", "Say what the picture shows."),
}
BRIEFLY = ("Answer with one word.", "Answer briefly.", "One word only.", "Be brief.")
HELD_OUT_BRIEFLY = ("Reply with a single word.", "Keep it short.")
SYSTEMS = ("You are a helpful assistant.", "You answer questions about images.", "Be concise and honest.")

TRAINING_WORDINGS: dict[str, tuple[str, ...]] = {task: _joined(task) for task in _WRITTEN}
