"""What every embedder promises, kept by each: the same suite for all of them."""

from __future__ import annotations

import importlib.util
import json
import math
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pmis.kit.settings import load_settings
from pmis.memory.embedding import EmbeddingError, embedder_of
from pmis.memory.embedding.hashing import HashingEmbedder, vector_of
from pmis.memory.embedding.local import PACKAGE, LocalEmbedder
from pmis.memory.embedding.provider import BATCH, ProviderEmbedder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from pmis.memory.embedding import Embedder

pytestmark = pytest.mark.anyio
KEY = "a key for the tests"
TEXTS = (
    "The mayor wants the paving before school begins.",
    "Delays with the asphalt supplier are expected until March.",
    "Residents complained about noise at night.",
)
EMBEDDERS = ("hashing", "openai", "azure", "local")


class FakeProvider(BaseHTTPRequestHandler):
    """Speaks OpenAI's and Azure's protocol for embeddings; the vectors are those of hashing."""

    asked: ClassVar[list[tuple[str, dict[str, str], dict[str, Any]]]] = []
    status: ClassVar[int] = 200
    answer: ClassVar[bytes | None] = None
    delay: ClassVar[threading.Event | None] = None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append((self.path, dict(self.headers), body))
        if self.delay is not None:
            self.delay.wait(5)
        data = [
            {"object": "embedding", "index": place, "embedding": [2 * one for one in vector_of(text)]}
            for place, text in enumerate(body["input"])
        ]
        sent = json.dumps({"object": "list", "data": data[::-1], "model": body["model"]}).encode()
        sent = sent if self.answer is None else self.answer
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - as the base class has it
        pass


@contextmanager
def serving() -> Generator[str]:
    FakeProvider.asked, FakeProvider.status, FakeProvider.answer, FakeProvider.delay = [], 200, None, None
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeProvider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def url() -> Iterator[str]:
    with serving() as address:
        yield address


def provider(url: str, kind: str = "openai", **more: Any) -> Embedder:
    where = (
        {"azure_openai_endpoint": url, "azure_openai_api_key": KEY}
        if kind == "azure"
        else {"openai_base_url": f"{url}/v1", "openai_api_key": KEY}
    )
    return embedder_of(load_settings(embedder="provider", embedding_provider=kind, **where, **more))


@pytest.fixture(params=EMBEDDERS)
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    if request.param in ("openai", "azure"):
        with serving() as address:
            yield provider(address, request.param)
        return
    if request.param == "local" and importlib.util.find_spec(PACKAGE) is None:
        pytest.skip("the extra local-embeddings is not installed")
    yield embedder_of(load_settings(embedder=request.param))


def alike(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


class TestEvery:
    async def test_vectors_have_length_one_and_the_size_that_is_said(self, embedder: Embedder):
        vectors = [*await embedder.passages(TEXTS), await embedder.question(TEXTS[0])]
        assert len(vectors) == len(TEXTS) + 1
        for vector in vectors:
            assert len(vector) == embedder.dimensions
            assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-3)

    async def test_the_same_text_has_the_same_vector_alone_and_among_others(self, embedder: Embedder):
        together = await embedder.passages(TEXTS)
        for text, vector in zip(TEXTS, together, strict=True):
            assert alike((await embedder.passages([text]))[0], vector) > 0.999

    async def test_what_a_question_is_about_is_nearest_and_near_enough(self, embedder: Embedder):
        vectors = await embedder.passages(TEXTS)
        for place, text in enumerate(
            ("When does the mayor want the paving?", "asphalt supplier delay", "who complained about the noise")
        ):
            question = await embedder.question(text)
            near = [alike(question, vector) for vector in vectors]
            assert near.index(max(near)) == place
            assert near[place] > embedder.least

    @pytest.mark.parametrize("text", ["", " ", "?!", "漢字", "🏗️", "a\n\tb", "x" * 1000, "word " * 200])
    async def test_it_takes_whatever_a_memory_can_be(self, embedder: Embedder, text: str):
        (vector,) = await embedder.passages([text])
        assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-3)
        assert len(await embedder.question(text)) == embedder.dimensions

    async def test_none_for_nothing(self, embedder: Embedder):
        assert await embedder.passages([]) == []

    async def test_its_name_tells_it_from_all_others(self, embedder: Embedder):
        others = {
            HashingEmbedder.name,
            LocalEmbedder().name,
            *(
                provider("http://127.0.0.1:1", kind, embedding_model=model, embedding_dimensions=size).name
                for kind in ("openai", "azure")
                for model in ("text-embedding-3-small", "text-embedding-3-large")
                for size in (512, 1024)
            ),
        }
        assert len(others) == 10
        assert embedder.name in others


class TestProvider:
    async def test_what_openai_and_azure_are_asked(self, url: str):
        await provider(url).passages(["a"])
        await provider(url, "azure", embedding_model="our-embeddings").question("b")
        (openai, headers, body), (azure, other, _) = FakeProvider.asked
        assert (openai, headers["Authorization"]) == ("/v1/embeddings", f"Bearer {KEY}")
        assert body == {
            "model": "text-embedding-3-small",
            "input": ["a"],
            "dimensions": 512,
            "encoding_format": "float",
        }
        assert azure == "/openai/deployments/our-embeddings/embeddings?api-version=2024-10-21"
        assert (other["api-key"], other.get("Authorization")) == (KEY, None)

    async def test_many_texts_go_in_batches_and_come_back_in_order(self, url: str):
        texts = [f"text number {number}" for number in range(2 * BATCH + 1)]
        vectors = await provider(url).passages(texts)
        assert [len(body["input"]) for _, _, body in FakeProvider.asked] == [BATCH, BATCH, 1]
        assert all(alike(vector_of(text), vector) > 0.999 for text, vector in zip(texts, vectors, strict=True))

    @pytest.mark.parametrize("status", [301, 400, 401, 429, 500])
    async def test_refusals(self, url: str, status: int):
        FakeProvider.status = status
        with pytest.raises(EmbeddingError, match=f"answers {status}"):
            await provider(url).question("x")

    @pytest.mark.parametrize(
        "answer",
        [
            "",
            "no json",
            "[]",
            "{}",
            '{"data": []}',
            '{"data": [{"index": 1, "embedding": [1]}]}',
            '{"data": [{"index": 0, "embedding": "x"}]}',
            '{"data": [{"index": 0}]}',
            '{"data": 7}',
            json.dumps({"data": [{"index": 0, "embedding": [0.0] * 512}]}),
            json.dumps({"data": [{"index": 0, "embedding": [float("nan")] * 512}]}),
            json.dumps({"data": [{"index": 0, "embedding": [1.0] * 512}] * 2}),
        ],
    )
    async def test_answers_that_are_none(self, url: str, answer: str):
        FakeProvider.answer = answer.encode()
        with pytest.raises(EmbeddingError, match="what are no embeddings"):
            await provider(url).question("x")

    async def test_vectors_of_another_size_are_not_kept(self, url: str):
        FakeProvider.answer = json.dumps({"data": [{"index": 0, "embedding": [1.0] * 1536}]}).encode()
        with pytest.raises(EmbeddingError, match="have 1536 numbers, and EMBEDDING_DIMENSIONS says 512"):
            await provider(url).question("x")

    async def test_one_that_takes_its_time_and_one_that_is_not_there(self, url: str):
        FakeProvider.delay = threading.Event()
        with pytest.raises(EmbeddingError, match=r"did not answer within 0\.2 s"):
            await provider(url, embedding_timeout_seconds=0.2).question("x")
        FakeProvider.delay.set()
        with pytest.raises(EmbeddingError, match="cannot be reached"):
            await provider("http://127.0.0.1:1").question("x")

    def test_settings_that_name_none(self):
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({}, "OPENAI_API_KEY"),
            ({"embedding_provider": "azure", "azure_openai_api_key": KEY}, "AZURE_OPENAI_ENDPOINT"),
        )
        for settings, said in cases:
            made = load_settings(embedder="provider", **settings)
            with pytest.raises(EmbeddingError, match=said):
                ProviderEmbedder.of(made)
            assert f"EMBEDDER is provider without {said}" in made.problems()


async def test_the_local_model_says_when_it_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    from pmis.memory.embedding import local

    local._model.cache_clear()
    with pytest.raises(EmbeddingError, match=r"install `pmis\[local-embeddings\]`"):
        await LocalEmbedder().question("x")
