"""Drives a live server through boto3's Converse and ConverseStream and prints what it read, as one JSON object.

Usage: python boto3_converse.py BASE_URL PAIR MODEL [structured | pictures FILE …], with an interpreter that has boto3;
PAIR is ACCESS_KEY_ID:SECRET. Of a model that nobody has scripted these ask for structured output alone, or show it a
PNG.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

base_url, pair, name, *rest = sys.argv[1:]
access_key_id, _, secret_of_pair = pair.partition(":")
Fields = dict[str, Any]
CITY = {"type": "string", "enum": ['Köln "am" Rhein 😀', "Rom"]}
WEATHER: Fields = {
    "name": "weather",
    "description": "The weather of a city.",
    "inputSchema": {
        "json": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    },
}
ANSWER: Fields = {
    "type": "object",
    "properties": {"city": CITY, "trams": {"type": "integer"}, "warm": {"type": "boolean"}},
    "required": ["city", "trams", "warm"],
    "additionalProperties": False,
}
MARK = {"cachePoint": {"type": "default"}}
SKY = "Jupiter is the largest planet. It has 95 known moons. 😀 Saturn's rings are made of ice."


def runtime(secret: str = secret_of_pair, attempts: int = 1) -> Any:
    """The client, as code for it makes one; `Any`, for boto3 makes its methods at run time."""
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=base_url,
        region_name="us-east-1",
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret,
        config=Config(retries={"mode": "standard", "total_max_attempts": attempts}),
    )


CLIENT = runtime()


def asked(*content: Fields, **fields: Any) -> Fields:
    """The arguments of a call."""
    message = {"role": "user", "content": list(content) or [{"text": "Hi"}]}
    return {"modelId": name, "messages": [message], "inferenceConfig": {"maxTokens": 400}, **fields}


def whole(*content: Fields, client: Any = CLIENT, **fields: Any) -> Any:
    """A reply that comes whole."""
    return client.converse(**asked(*content, **fields))


def streamed(*content: Fields, **fields: Any) -> Any:
    """A reply that comes in pieces, put together as users have to: boto3 only gives the events."""
    blocks: dict[int, Fields] = {}
    told: Fields = {}
    for event in CLIENT.converse_stream(**asked(*content, **fields))["stream"]:
        [(kind, fields_of_event)] = event.items()
        if kind == "contentBlockStart":
            blocks[fields_of_event["contentBlockIndex"]] = {**fields_of_event["start"], "json": ""}
        elif kind == "contentBlockDelta":
            block = blocks.setdefault(fields_of_event["contentBlockIndex"], {"text": "", "citations": []})
            add(block, fields_of_event["delta"])
        else:
            told |= fields_of_event
    content_of_reply = [finished(block) for _, block in sorted(blocks.items())]
    return {**told, "output": {"message": {"role": told["role"], "content": content_of_reply}}}


def add(block: Fields, delta: Fields) -> None:
    """Put a delta to its block."""
    if "text" in delta:
        block["text"] += delta["text"]
    elif "citation" in delta:
        block["citations"].append(delta["citation"])
    else:
        block["json"] += delta["toolUse"]["input"]


def finished(block: Fields) -> Fields:
    """The block as Converse gives it."""
    if "toolUse" in block:
        return {"toolUse": {**block["toolUse"], "input": json.loads(block["json"])}}
    if block["citations"]:
        return {"citationsContent": {"content": [{"text": block["text"]}], "citations": block["citations"]}}
    return {"text": block["text"]}


def seen(reply: Any) -> Fields:
    """What a reply says and cost, in the words that the drivers have in common."""
    content, usage = reply["output"]["message"]["content"], reply["usage"]
    calls = [block["toolUse"] for block in content if "toolUse" in block]
    return {
        "text": "".join(block.get("text", "") for block in content),
        "stop": reply["stopReason"],
        "model": None,  # Converse does not tell
        "calls": [[call["name"], call["input"]] for call in calls],
        "input": usage["inputTokens"],
        "output": usage["outputTokens"],
        "cache_read": usage["cacheReadInputTokens"],
        "cache_written": usage["cacheWriteInputTokens"],
    }


def cited(reply: Any) -> list[list[Any]]:
    """Each block's text, and the passages that it cites."""
    read = []
    for block in reply["output"]["message"]["content"]:
        citations = block.get("citationsContent", {"content": [block], "citations": []})
        passages = [citation["sourceContent"][0]["text"] for citation in citations["citations"]]
        read.append([citations["content"][0]["text"], passages])
    return read


def tool_loop(ask: Callable[..., Any]) -> list[Fields]:
    """A call, and the answer to its result."""
    fields: Fields = {
        "system": [{"text": "Be brief."}],
        "toolConfig": {"tools": [{"toolSpec": WEATHER}]},
    }
    call = ask({"text": "Is it raining?"}, **fields)
    message = call["output"]["message"]
    results = [
        {
            "toolUseId": block["toolUse"]["toolUseId"],
            "content": [{"text": f"rain in {len(block['toolUse']['input']['city'])} letters"}],
        }
        for block in message["content"]
        if "toolUse" in block
    ]
    fields["messages"] = [
        *asked({"text": "Is it raining?"})["messages"],
        message,
        {"role": "user", "content": [{"toolResult": result} for result in results]},
    ]
    return [seen(call), seen(ask(**fields))]


def structured() -> list[Fields]:
    """By way of a forced call, whole and streamed, and as JSON."""
    tool = {"toolSpec": {"name": "answer", "inputSchema": {"json": ANSWER}}}
    forced: Fields = {"toolConfig": {"tools": [tool], "toolChoice": {"tool": {"name": "answer"}}}}
    calls = [seen(ask(**forced))["calls"][0][1] for ask in (whole, streamed)]
    structure = {"jsonSchema": {"schema": json.dumps(ANSWER), "name": "answer"}}
    text_format = {"type": "json_schema", "structure": structure}
    document = whole({"text": "Answer in JSON"}, outputConfig={"textFormat": text_format})
    return [*calls, json.loads(seen(document)["text"])]


def pictures(path: str) -> Fields:
    """One picture in every way; Converse takes their bytes only."""
    with open(path, "rb") as file:
        image = {"image": {"format": "png", "source": {"bytes": file.read()}}}
    question = {"text": "What is it?"}
    short = {"inferenceConfig": {"maxTokens": 24}}
    tools = {"tools": [{"toolSpec": {"name": "camera", "inputSchema": {"json": {"type": "object"}}}}]}

    def in_a_result(num_images: int) -> Fields:
        call = {"toolUseId": "toolu_1", "name": "camera", "input": {}}
        result = {"toolUseId": "toolu_1", "content": [image] * num_images}
        contents = [
            ("user", {"text": "Look"}),
            ("assistant", {"toolUse": call}),
            ("user", {"toolResult": result}),
        ]
        messages = [{"role": role, "content": [block]} for role, block in contents]
        return seen(whole(messages=messages, toolConfig=tools, **short))

    return {
        "inline": seen(whole(image, question, **short)),
        "streamed": seen(streamed(image, question, **short)),
        "two": seen(whole(image, image, question, **short)),
        "results": [in_a_result(1), in_a_result(2)],
        "counted": count(messages=asked(image, question)["messages"]),
    }


def count(**converse: Any) -> int:
    """How many tokens a prompt has."""
    return int(CLIENT.count_tokens(modelId=name, input={"converse": converse})["inputTokens"])


def at_once() -> list[str]:
    """Several replies at the same time: boto3's clients may be shared by threads."""
    with ThreadPoolExecutor() as pool:
        replies = pool.map(lambda number: whole({"text": f"Hi {number}"}), range(8))
        return [seen(reply)["text"] for reply in replies]


def leave_a_story() -> str:
    """The first words of a stream that is then left."""
    story = asked({"text": "Tell a long story"}, inferenceConfig={"maxTokens": 8000})
    stream = CLIENT.converse_stream(**story)["stream"]
    for event in stream:
        if "contentBlockDelta" in event:
            stream.close()
            return str(event["contentBlockDelta"]["delta"]["text"])
    return ""


def error_of(*content: Fields, client: Any = CLIENT, **fields: Any) -> Fields:
    """Status and sentence of boto3's error for a call."""
    try:
        whole(*content, client=client, **fields)
    except ClientError as refusal:
        status = refusal.response["ResponseMetadata"]["HTTPStatusCode"]
        return {"status": status, "message": refusal.response["Error"]["Message"]}
    return {}


def everything() -> Fields:
    """One use after the other."""
    limit = {"maxTokens": 400}
    sampling = {"temperature": 0.5, "topP": 0.9, "stopSequences": ["###"]}
    turns = [
        {"role": "user", "content": [{"text": "Hi"}]},
        {"role": "assistant", "content": [{"text": "Hello, world!"}]},
        {"role": "user", "content": [{"text": "Again"}]},
    ]
    brief = [{"text": "Be brief."}]
    weather = {"tools": [{"toolSpec": WEATHER}], "toolChoice": {"any": {}}}
    cached: Fields = {"system": [{"text": "Be brief. " * 40}, MARK]}
    sky = {"name": "Sky", "source": {"text": SKY}, "citations": {"enabled": True}}
    moons: list[Fields] = [{"document": {"format": "txt", **sky}}, {"text": "Moons?"}]
    image = {"image": {"format": "png", "source": {"bytes": b"\x89PNG\r\n\x1a\n"}}}
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    top_k = {"top_k": 40}
    return {
        "whole": seen(whole(inferenceConfig=limit | sampling, additionalModelRequestFields=top_k)),
        "streamed": seen(streamed()),
        "turns": seen(whole(system=brief, messages=turns)),
        "loop": tool_loop(whole),
        "streamed_loop": tool_loop(streamed),
        "forced": seen(whole(toolConfig=weather)),
        "structured": structured(),
        "cached": [seen(whole({"text": "Hi"}, MARK, **cached)) for _ in range(2)],
        "cited": [cited(whole(*moons)), cited(streamed(*moons))],
        "cut_short": seen(whole(inferenceConfig={"maxTokens": 5})),
        "stopped": seen(whole(inferenceConfig=limit | {"stopSequences": [","]})),
        "counted": count(system=brief, messages=turns),
        "retried": seen(whole({"text": "Good morning"}, client=runtime(attempts=3))),
        "left": leave_a_story(),
        "at_once": at_once(),
        "errors": {
            "overloaded": error_of({"text": "Good morning, all"}),
            "bad_key": error_of(client=runtime(secret="sk-wrong")),
            "not_found": error_of(modelId="claude-foo"),
            "too_many": error_of(inferenceConfig={"maxTokens": 9000}),
            "thinking": error_of(additionalModelRequestFields=thinking),
            "image": error_of(image),
        },
    }


def drive() -> Fields:
    """What was asked for."""
    match rest:
        case ["structured"]:
            return {"structured": structured()}
        case ["pictures", path, *_]:
            return pictures(path)
        case _:
            return everything()


print(json.dumps(drive()))
