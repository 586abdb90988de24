"""What the engines do with text, by a tokenizer made for the test: one letter is one token."""
import asyncio

import pytest

import quire
from conftest import SMALL, is_free
from quire import SamplingParams


class LetterStream:
    def __init__(self, stop, include):
        self.stop, self.include, self.stopped, self.held = stop, include, None, ""

    def push(self, token):
        self.held += chr(token)
        for stop in self.stop:
            if stop in self.held:
                self.stopped = stop
                end = self.held.index(stop) + (len(stop) if self.include else 0)
                return self._give(end)
        return self._give(len(self.held) - max((len(s) for s in self.stop), default=1) + 1)

    def _give(self, count):
        text, self.held = self.held[:max(0, count)], self.held[max(0, count):]
        return text

    def finish(self):
        return self._give(len(self.held))


class Letters:
    def encode(self, text, add_special_tokens=True):
        return [ord(c) for c in text]

    def decode(self, token_ids, skip_special_tokens=True):
        return "".join(map(chr, token_ids))

    def apply_chat_template(self, messages, *, add_generation_prompt=True, mark=":", **variables):
        text = "".join(f"{m['role'][0]}{mark}{m['content']};" for m in messages)
        return text + "a" + mark if add_generation_prompt else text

    def stream(self, prompt_token_ids, *, stop=(), include_stop_str_in_output=False, skip_special_tokens=True,
               min_tokens=0):
        return LetterStream(stop, include_stop_str_in_output)


class Says:
    """A mask under which the model says a text."""

    def __init__(self, text):
        self.text = text

    def fill(self, row, allowed):
        token = ord(self.text[len(row.tokens) - row.prompt_count])
        for i in range(len(allowed)):
            allowed[i] = 1 << token % 32 if i == token // 32 else 0


@pytest.fixture(scope="module")
def llm():
    with quire.LLM("tiny", tokenizer=Letters(), **SMALL) as llm:
        yield llm


def says(text, **params):
    return SamplingParams(**({"max_tokens": len(text)} | params), mask=Says(text))


def test_text_goes_in_and_comes_out(llm):
    [result] = llm.generate("abc", says("hello"))
    assert result.prompt == "abc" and result.prompt_token_ids == [97, 98, 99]
    assert result.outputs[0].text == "hello" and result.outputs[0].token_ids == [ord(c) for c in "hello"]


def test_what_a_stream_holds_back_comes_at_the_end(llm):
    assert llm.generate("abc", says("hello", stop="love"))[0].outputs[0].text == "hello"


def test_conversations_go_through_the_template(llm):
    hi, ho = [{"role": "user", "content": "hi"}], [{"role": "user", "content": "ho"}]
    [result] = llm.chat(hi, says("hello"), add_generation_prompt=False, chat_template_kwargs={"mark": "="})
    assert bytes(result.prompt_token_ids) == b"u=hi;" and result.outputs[0].text == "hello"
    results = llm.chat([hi, ho], says("hello"))
    assert [bytes(result.prompt_token_ids) for result in results] == [b"u:hi;a:", b"u:ho;a:"]
    with quire.LLM("tiny", **SMALL) as without, pytest.raises(quire.QuireError, match="messages: is text, and there is no tokenizer"):
        without.chat(hi)


def test_text_may_be_left_out(llm):
    assert llm.generate("abc", says("hello", detokenize=False))[0].outputs[0].text is None


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_string_ends_the_sequence(llm, include):
    text = "one two three" + " and more" * 100
    [result] = llm.generate("abc", says(text, stop=["xx", "two"], include_stop_str_in_output=include))
    output = result.outputs[0]
    assert output.text == ("one two" if include else "one ") and output.finish_reason == "stop"
    assert output.stop_reason == "two" and output.token_ids == [ord(c) for c in "one two"]
    assert output.metrics.output_tokens < len(text)
    assert is_free(llm)


def test_a_stop_string_that_comes_with_the_end_is_why_it_ends(llm):
    params = SamplingParams(max_tokens=7, stop=["STOP"], mask=Says("abcSTOP"))
    [output] = llm.generate([1], params)[0].outputs
    assert (output.text, output.finish_reason, output.stop_reason) == ("abc", "stop", "STOP")


def test_a_stop_token_is_no_text(llm):
    output = llm.generate("abc", says("a;bc", stop_token_ids=[ord(";")]))[0].outputs[0]
    assert (output.text, output.stop_reason, output.finish_reason) == ("a", ord(";"), "stop")
    assert output.token_ids == [ord("a"), ord(";")]
    kept = llm.generate("abc", says("a;bc", stop_token_ids=[ord(";")], include_stop_str_in_output=True))[0].outputs[0]
    assert kept.text == "a;"


def test_streams_end_at_stop_strings():
    async def test():
        async with quire.AsyncEngine("tiny", tokenizer=Letters(), **SMALL) as engine:
            text, last, tokens = "", None, []
            async for output in engine.generate("abc", says("one two three" + "." * 500, stop="three")):
                text += output.outputs[0].text
                tokens += output.outputs[0].token_ids
                last = output.outputs[0]
            assert (text, last.finish_reason, last.stop_reason) == ("one two ", "stop", "three")
            assert tokens == [ord(c) for c in "one two three"] and last.metrics is not None
            assert is_free(engine)
    asyncio.run(asyncio.wait_for(test(), 60))


@pytest.mark.parametrize("stop", [None, "never"])
def test_a_tokenizer_that_fails_ends_its_request(llm, stop, monkeypatch):
    def fail(self, token):
        raise KeyError(token)
    monkeypatch.setattr(LetterStream, "push", fail)
    with pytest.raises(KeyError):
        llm.generate("abc", says("hello", stop=stop))

    async def test():
        async with quire.AsyncEngine("tiny", tokenizer=Letters(), **SMALL) as engine:
            with pytest.raises(KeyError):
                async for _ in engine.generate("abc", says("hello" * 20, stop=stop)):
                    pass
    asyncio.run(asyncio.wait_for(test(), 60))
