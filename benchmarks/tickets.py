"""Support tickets and what a model is told that shall put each under one label: the job of W9.

Everything follows from a number, so that every engine of every run reads the same texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

LABELS: dict[str, str] = {
    "billing_dispute": "an amount on an invoice or a card statement is not what was agreed",
    "refund_request": "money back is asked for and the reason is not a damaged parcel",
    "delivery_delay": "the parcel has not come by the day that was promised",
    "damaged_item": "the parcel or what is in it arrived broken, scratched, wet or incomplete",
    "account_access": "the customer cannot sign in and a new password would not help",
    "password_reset": "a new password is asked for or the message that brings one does not come",
    "subscription_cancellation": "a plan, a trial or a renewal is to end",
    "product_question": "a fact about something on sale is asked for before buying it",
    "technical_fault": "the application or the website does something that it should not",
    "warranty_claim": "a thing that once worked has failed within its warranty",
    "data_privacy": "stored data is to be shown, corrected, exported or erased",
    "feature_request": "something is wished for that the service does not do yet",
}
_COMPLAINTS: dict[str, tuple[str, ...]] = {
    "billing_dispute": (
        "I was charged twice for order {order}, once on {day} and again on {later}.",
        "My invoice for {product} says {price} dollars, but the page said less when I paid on {day}.",
    ),
    "refund_request": (
        "I sent {product} back on {day} because I no longer need it and want my {price} dollars returned.",
        "Please give me my money back for order {order}, I changed my mind on {day}.",
    ),
    "delivery_delay": (
        "Order {order} with {product} should have been here on {day} and tracking has not moved since {later}.",
        "I am still waiting for {product}, which you promised for {day}.",
    ),
    "damaged_item": (
        "I opened the box with {product} on {day} and one side of it is cracked.",
        "Half of order {order} was soaked with water when the driver handed it over on {day}.",
    ),
    "account_access": (
        "Since {day} the site says my account does not exist, although order {order} is in it.",
        "I moved to a new phone on {day} and can no longer confirm that it is me.",
    ),
    "password_reset": (
        "I have asked for a new password three times since {day} and no message has come.",
        "The link for choosing a new password expires before I can open it, last on {day}.",
    ),
    "subscription_cancellation": (
        "Please end my plan before it renews on {day} for {price} dollars.",
        "I started a trial with {product} on {day} and do not want to go on after it.",
    ),
    "product_question": (
        "Before I order {product}, does it work with the model that you sold until {day}?",
        "How long is the cable of {product}, and will it be in stock on {day}?",
    ),
    "technical_fault": (
        "Since {day} the application closes by itself as soon as I open order {order}.",
        "The basket shows {price} dollars and then an empty page, every time since {day}.",
    ),
    "warranty_claim": (
        "I bought {product} last year, and on {day} it stopped charging for good.",
        "After eight months the motor of {product} has failed, order {order}, and you gave two years.",
    ),
    "data_privacy": (
        "Send me everything that you have stored about me since order {order}, and then erase it.",
        "My name is wrong in the records of order {order}, please correct it by {day}.",
    ),
    "feature_request": (
        "It would help if I could choose the hour of delivery, for {product} on {day} I had to stay at home.",
        "Please let me split order {order} over two addresses, I asked for this on {day} as well.",
    ),
}
_PRODUCTS = (
    "the blue kettle", "a standing lamp", "the travel charger", "two desk chairs", "the noise filter", "a garden hose",
    "the smart scale", "a camera bag", "the bread maker", "a set of knives", "the tablet stand", "a bicycle lock",
    "the air purifier",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WISHES = (
    "Could somebody look into it today?", "I have been a customer for six years.", "Please write to me, do not call.",
    "This is the second time that I have to ask.", "Your chat sent me here.", "I would like an answer by tomorrow.",
    "Tell me what you need from me.", "My colleague has the same problem.", "I attach nothing, ask if you need proof.",
    "Thank you for your patience with me.", "It is rather urgent for us.",
)  # fmt: skip


def ticket(number: int) -> tuple[str, str]:
    """A text of some 30 to 60 tokens that no other of the first 90,000 has, and the label that it was written for."""
    label = list(LABELS)[number * 5 % len(LABELS)]
    complaint = _COMPLAINTS[label][number // len(LABELS) % 2].format(
        order=10_000 + number * 7_919 % 89_989,
        product=_PRODUCTS[number % len(_PRODUCTS)],
        day=_DAYS[number % len(_DAYS)],
        later=_DAYS[(number + 2) % len(_DAYS)],
        price=20 + number * 37 % 979,
    )
    wishes = (_WISHES[number % len(_WISHES)], _WISHES[(number // 3 + 1) % len(_WISHES)])
    customer = f"My customer number is {10_000 + number}."
    return " ".join((complaint, *dict.fromkeys(wishes), customer)), label


def instructions(min_tokens: int, num_tokens: Callable[[str], int]) -> tuple[str, int]:
    """What is to be done, then as many examples as make it `min_tokens` long by the measure of `num_tokens`.

    Returns:
        the text, and the number of the first ticket that is not among its examples.
    """
    meanings = "".join(f"- {label}: {meaning}\n" for label, meaning in LABELS.items())
    text = (
        "You sort the messages that customers write to a shop's support desk. Answer each with the one label that "
        f"says best what it is about, and with nothing else. The labels are:\n{meanings}\nExamples:\n"
    )
    for number, example in _examples():
        text += example
        if num_tokens(text) >= min_tokens:
            return text, number + 1
    raise AssertionError("examples do not end")


def _examples() -> Iterator[tuple[int, str]]:
    for number in count():
        text, label = ticket(number)
        yield number, f"\nMessage: {text}\nLabel: {label}\n"
