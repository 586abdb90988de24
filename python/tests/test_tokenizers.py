"""Tokenizers of every kind of file give the text of their tokens in any portions, and find stop strings in it."""
import json
import os
import pathlib
import random
import struct

import pytest

tokenizers = pytest.importorskip("tokenizers")
from quire.text import StopStrings, TextError, load_text  # noqa: E402
from tokenizer_files import CORPUS, SPECIAL, TEMPLATE, byte_level, metaspace, save  # noqa: E402

TEXTS = ["The capital of France is Paris.", "naïve café – 12345 Größe", "日本語のテキスト。", "emoji 👩‍👩‍👧‍👦 🎉!", "a\n\n  b\tc  ",
         "<|im_start|>user\nWho?<|im_end|>", "x", ""]


def write_gguf(path, metadata):
    def string(text):
        return struct.pack("<Q", len(text.encode())) + text.encode()

    def value(v):
        if isinstance(v, bool):
            return struct.pack("<I?", 7, v)
        if isinstance(v, str):
            return struct.pack("<I", 8) + string(v)
        if isinstance(v, int):
            return struct.pack("<Ii", 5, v)
        kind = {str: 8, int: 5, float: 6}[type(v[0])]
        head = struct.pack("<IIQ", 9, kind, len(v))
        return head + b"".join(string(e) if kind == 8 else struct.pack("<i" if kind == 5 else "<f", e) for e in v)

    data = b"GGUF" + struct.pack("<IQQ", 3, 0, len(metadata))
    path.write_bytes(data + b"".join(string(key) + value(v) for key, v in metadata.items()))
    return path


def byte_level_gguf(path, **changes):
    said = json.loads(byte_level().to_str())
    words = sorted(said["model"]["vocab"], key=said["model"]["vocab"].get)
    merges = [" ".join(merge) for merge in said["model"]["merges"]]
    return write_gguf(path, {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": words,
                             "tokenizer.ggml.token_type": [3 if word in SPECIAL else 1 for word in words],
                             "tokenizer.ggml.merges": merges, "tokenizer.ggml.bos_token_id": 1,
                             "tokenizer.ggml.eos_token_id": 2, "tokenizer.chat_template": TEMPLATE, **changes})


def test_a_folder_made_of_a_gguf_file(tmp_path):
    from quire.gguf import save_folder
    file, folder = byte_level_gguf(tmp_path / "m.gguf", **{"general.architecture": "llama", "llama.context_length": 77}), tmp_path / "f"
    folder.mkdir()
    save_folder(file, folder)
    of_file, of_folder = load_text(file), load_text(folder)
    for text in TEXTS:
        assert of_folder.encode(text) == of_file.encode(text)
    messages = [{"role": "user", "content": "Hi"}]
    assert of_folder.apply_chat_template(messages) == of_file.apply_chat_template(messages)
    assert of_folder.special_tokens == of_file.special_tokens
    config = json.loads((folder / "config.json").read_text())
    assert config["max_position_embeddings"] == 77 and config["eos_token_id"] == 2


def train_sentencepiece(folder, name, **arguments):
    sentencepiece = pytest.importorskip("sentencepiece")
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS), model_prefix=str(folder / "m"),
                                             minloglevel=2, **arguments)
    (folder / "m.model").rename(folder / name)
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / name))


def parts(text, ids, **options):
    stream = text.stream((), **options)
    return [stream.push(i) for i in ids] + [stream.finish()]


def test_byte_level_text_is_that_of_the_tokenizers_package(tmp_path):
    tokenizer = byte_level()
    text = load_text(save(tokenizer, tmp_path))
    for sample in TEXTS:
        ids = tokenizer.encode(sample).ids
        assert text.encode(sample) == ids
        for skip in (True, False):
            assert text.decode(ids, skip) == tokenizer.decode(ids, skip_special_tokens=skip)
    assert "".join(parts(text, text.encode(TEXTS[3]))) == TEXTS[3]


def test_any_tokens_have_the_text_of_the_whole(tmp_path):
    """Also broken characters: random tokens are not UTF-8."""
    tokenizer = byte_level()
    text = load_text(save(tokenizer, tmp_path))
    draw = random.Random(1)
    for _ in range(300):
        ids = [draw.randrange(tokenizer.get_vocab_size()) for _ in range(draw.randrange(1, 30))]
        assert "".join(parts(text, ids)) == tokenizer.decode(ids)


def test_a_character_is_never_split(tmp_path):
    text = load_text(save(byte_level(), tmp_path))
    ids = text.encode("🎉日本é")
    assert len(ids) > 4  # of several tokens each
    given = parts(text, ids)
    assert "".join(given) == "🎉日本é"
    assert all("\ufffd" not in part for part in given)
    assert parts(text, ids[:1])[-1] == "\ufffd"  # it will never be whole
    assert text.token_text(ids[0]).startswith("bytes:\\xf0")


def test_metaspace_text_begins_without_a_space(tmp_path):
    tokenizer = metaspace()
    text = load_text(save(tokenizer, tmp_path))
    ids = tokenizer.encode("The capital of France").ids
    assert "".join(parts(text, ids)) == tokenizer.decode(ids) == "The capital of France"
    stream = text.stream(ids)
    assert "".join(map(stream.push, ids)) == " The capital of France"  # after a text, the space counts


def test_an_unknown_id_has_no_text(tmp_path):
    text = load_text(save(byte_level(), tmp_path))
    assert text.decode([10 ** 6, -1]) == ""


def test_a_decoder_that_joins_words_is_refused_by_name(tmp_path):
    tokenizer = byte_level()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    with pytest.raises(TextError, match="WordPiece"):
        load_text(save(tokenizer, tmp_path))


def test_gguf_byte_level_is_the_tokenizer_it_was_made_of(tmp_path):
    text, tokenizer = load_text(byte_level_gguf(tmp_path / "m.gguf")), byte_level()
    for sample in TEXTS:
        assert text.encode(sample) == tokenizer.encode(sample).ids
    assert text.special_tokens["bos_token"] == "<|im_start|>"
    assert text.apply_chat_template([{"role": "user", "content": "Hi"}]) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_gguf_splits_text_by_the_name_of_the_rule(tmp_path):
    """Merges of digits and of letters with their case are there; the rule says where they may act."""
    words = [*tokenizers.pre_tokenizers.ByteLevel.alphabet(), "12", "345", "45", "ab", "Cd", "bC"]
    merges = ["1 2", "4 5", "3 45", "a b", "b C", "C d"]

    def pieces(pre, sample):
        path = byte_level_gguf(tmp_path / "m.gguf", **{
            "tokenizer.ggml.tokens": words, "tokenizer.ggml.merges": merges, "tokenizer.ggml.token_type": [1] * len(words),
            "tokenizer.ggml.pre": pre, "tokenizer.ggml.add_bos_token": False})
        return [words[i] for i in load_text(path).encode(sample)]
    assert pieces("gpt-2", "12345") == ["12", "345"]
    assert pieces("smollm", "12345") == pieces("qwen2", "12345") == pieces("tekken", "12345") == list("12345")
    assert pieces("llama-bpe", "12345") == ["12", "3", "45"]
    assert pieces("gpt-4o", "abCd") == pieces("tekken", "abCd") == ["ab", "Cd"]
    assert pieces("qwen2", "aabC") == ["a", "ab", "C"] and pieces("gpt-4o", "bbC") == ["b", "b", "C"]


def test_gguf_adds_the_ends_that_it_asks_for(tmp_path):
    path = byte_level_gguf(tmp_path / "m.gguf", **{"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True})
    text = load_text(path)
    plain = text.encode("a", add_special_tokens=False)
    assert text.encode("a") == [1, *plain, 2]


def test_gguf_sentencepiece_is_sentencepiece(tmp_path):
    model = train_sentencepiece(tmp_path, "tokenizer.model", vocab_size=400, model_type="bpe", byte_fallback=True)
    order = [*range(259), *range(model.get_piece_size() - 1, 258, -1)]  # scores count, not places
    words = [model.id_to_piece(i) for i in order]
    types = [2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1 for i in order]
    text = load_text(write_gguf(tmp_path / "m.gguf", {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": words, "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.scores": [model.get_score(i) for i in order],
        "tokenizer.ggml.bos_token_id": model.bos_id(), "tokenizer.ggml.eos_token_id": model.eos_id()}))
    for sample in ("The capital of France is Paris.", "naïve café", "日本語 🎉", "ox umps over", "apitalof razyck wnfo quiParance"):
        ids = text.encode(sample)
        assert [words[i] for i in ids] == ["<s>", *model.encode(sample, out_type=str)], sample
        assert text.decode(ids) == sample


def test_gguf_sentencepiece_merges_the_best_piece_first(tmp_path):
    words = ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "c", "ab", "bc"]
    text = load_text(write_gguf(tmp_path / "m.gguf", {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": words, "tokenizer.ggml.token_type": [2, 3, 3] + [1] * 6,
        "tokenizer.ggml.scores": [0.0] * 3 + [-9.0] * 4 + [-2.0, -1.0], "tokenizer.ggml.bos_token_id": 1}))
    assert [words[i] for i in text.encode("abc")] == ["<s>", "\u2581", "a", "bc"]


@pytest.mark.parametrize("changes, named", [
    ({"tokenizer.ggml.model": "rwkv"}, "tokenizer.ggml.model is 'rwkv'"),
    ({"tokenizer.ggml.pre": "strange"}, "tokenizer.ggml.pre is 'strange'"),
    ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 100000}, "bos_token_id is 100000"),
])
def test_gguf_says_what_it_does_not_know(tmp_path, changes, named):
    with pytest.raises(TextError, match=named):
        load_text(byte_level_gguf(tmp_path / "m.gguf", **changes))


def test_gguf_cut_anywhere_is_one_error(tmp_path):
    whole = byte_level_gguf(tmp_path / "m.gguf").read_bytes()
    for length in (0, 3, 10, 24, 40, 200, 2000, len(whole) - 1):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(TextError, match="cut.gguf"):
            load_text(tmp_path / "cut.gguf")


@pytest.mark.parametrize("name, ends", [("spiece.model", (False, True)), ("tokenizer.model", (True, False))])
def test_old_folders_of_sentencepiece(tmp_path, name, ends):
    model = train_sentencepiece(tmp_path, name, vocab_size=60, model_type="unigram")
    text = load_text(tmp_path)
    ids = text.encode("The quick brown fox")
    assert ids == [model.bos_id()] * ends[0] + model.encode("The quick brown fox") + [model.eos_id()] * ends[1]
    assert text.decode(ids) == "The quick brown fox"


def test_t5_counts_its_extra_ids_downwards(tmp_path):
    model = train_sentencepiece(tmp_path, "spiece.model", vocab_size=60)
    text = load_text(tmp_path)
    assert text.encode("fox <extra_id_0> dog", add_special_tokens=False)[-3:-1] != []
    assert model.get_piece_size() + 99 in text.encode("fox <extra_id_0> dog")
    assert text.decode([model.get_piece_size() + 99], skip_special_tokens=False) == "<extra_id_0>"


@pytest.mark.parametrize("files, named", [({}, "no tokenizer.json"), ({"tokenizer.json": "{"}, "tokenizer.json"),
                                          ({"spiece.model": "no"}, "spiece.model")])
def test_folders_that_have_none_say_so(tmp_path, files, named):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(TextError, match=named):
        load_text(tmp_path)


# ---- stop strings ----

def portions(text, draw):
    """The text in random parts."""
    while text:
        cut = draw.randrange(1, 4)
        yield text[:cut]
        text = text[cut:]


def test_stop_strings_against_a_search_in_the_whole():
    draw = random.Random(2)
    for _ in range(3000):
        stops = ["".join(draw.choices("ab", k=draw.randrange(1, 6))) for _ in range(draw.randrange(1, 4))]
        text = "".join(draw.choices("abc", k=draw.randrange(0, 30)))
        ends = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
        expected = text[:min(ends)[0] + min(ends)[1]] if ends else text
        search, given = StopStrings(stops), ""
        for part in portions(text, draw):
            given += search.add(part)
            assert expected.startswith(given)  # nothing goes out that may be of a stop string
        given += search.finish()
        assert given == expected and (search.met is not None) == bool(ends)


def test_text_is_held_back_only_while_it_may_be_a_stop_string():
    search = StopStrings(["\n\nUser:"])
    assert [search.add(part) for part in ("Hello", "\n", "\nUs", "ing")] == ["Hello", "", "", "\n\nUsing"]
    assert search.met is None


def test_a_stop_string_may_be_kept():
    search = StopStrings(["END"], include=True)
    assert search.add("the EN") + search.add("D and more") == "the END"
    assert search.add("more") == "" and search.met == "END"


def test_stop_strings_do_not_count_in_the_first_tokens(tmp_path):
    text = load_text(save(byte_level(), tmp_path))
    ids = [text.encode(letter)[0] for letter in "xyxyz"]
    assert "".join(parts(text, ids, stop=["y"])) == "x"
    assert "".join(parts(text, ids, stop=["y"], min_tokens=2)) == "xyx"
    assert "".join(parts(text, ids, stop=["xy"], min_tokens=1)) == "xy"


def test_many_repetitive_stop_strings_take_linear_time():
    search = StopStrings(["a" * k + "b" for k in range(900, 964)])
    given = "".join(search.add("a" * 10) for _ in range(300)) + search.finish()
    assert given == "a" * 3000


# ---- chat templates ----

def chat(tmp_path, template, messages=({"role": "user", "content": "Hi"},), **variables):
    return load_text(save(byte_level(), tmp_path, chat_template=template, bos_token="<s>",
                          eos_token={"content": "</s>"})).apply_chat_template(list(messages), **variables)


def test_templates_have_what_transformers_gives_them(tmp_path):
    assert chat(tmp_path, "{{ bos_token }}{{ eos_token }}") == "<s></s>"
    assert chat(tmp_path, "{{ messages | tojson }}", [{"role": "ü", "content": "<&>"}]) == '[{"role": "ü", "content": "<&>"}]'
    assert chat(tmp_path, "{{ strftime_now('%Y') | length }}") == "4"
    assert chat(tmp_path, "{% for m in messages %}\n    {% if loop.last %}{% break %}{% endif %}{% endfor %}x") == "x"
    assert chat(tmp_path, "{% generation %}{{ messages[0].content }}{% endgeneration %}") == "Hi"
    assert chat(tmp_path, "{{ tools is none }} {{ documents is none }}") == "True True"
    assert chat(tmp_path, "{{ enable_thinking }}", enable_thinking=False) == "False"


def test_a_template_refuses_with_its_own_words(tmp_path):
    with pytest.raises(TextError, match="Only user and assistant"):
        chat(tmp_path, "{{ raise_exception('Only user and assistant') }}")


@pytest.mark.parametrize("template", ["{{ messages.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ undefined.x }}",
                                      "{{ messages[0].content + 1 }}", "{% for %}", "{{ range(10**9) | list }}"])
def test_templates_run_in_a_sandbox(tmp_path, template):
    with pytest.raises(TextError, match="chat template"):
        chat(tmp_path, template)


def test_named_templates_and_a_file_of_its_own(tmp_path):
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools[0].name }}"}]
    assert chat(tmp_path, named) == "plain"
    assert chat(tmp_path, named, tools=[{"name": "clock"}]) == "clock"
    (tmp_path / "chat_template.jinja").write_text("of the file")
    assert chat(tmp_path, named) == "of the file"


def test_a_model_without_template_says_so(tmp_path):
    with pytest.raises(TextError, match="no chat template"):
        load_text(save(byte_level(), tmp_path)).apply_chat_template([])


# ---- SmolLM2 ----

def test_smollm2_as_transformers_encodes_it():
    """The variable QUIRE_SMOLLM2 names its GGUF file (tools/fetch_smollm2.sh)."""
    if "QUIRE_SMOLLM2" not in os.environ:
        pytest.skip("QUIRE_SMOLLM2 does not name the file")
    text = load_text(os.environ["QUIRE_SMOLLM2"])
    cases = json.loads((pathlib.Path(__file__).resolve().parents[2] / "tests/real/smollm2.json").read_text())
    for case in cases:
        assert text.encode(case["text"]) == case["prompt"]
        assert text.decode(case["prompt"], skip_special_tokens=False) == case["text"]
