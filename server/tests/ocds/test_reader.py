"""Files are taken apart into releases; what is not OCDS, not UTF-8 or not JSON is named with its place."""

from __future__ import annotations

import json
from io import BytesIO

import pytest

from pmis.ocds.errors import FileTooLargeError, NotOcdsError, UnreadableFileError
from pmis.ocds.reader import Limits, read
from tests.ocds.office import DATA, SIX, package_of

RELEASE = {"ocid": "ocds-x-1", "id": "1", "date": "2020-01-01T00:00:00Z", "tag": ["tender"], "initiationType": "tender"}


def raw(document) -> bytes:
    return json.dumps(document).encode()


def found(content: bytes, name: str = "f.json", **limits):
    return list(read(content, name, Limits(**limits)))


class TestForms:
    def test_a_release_package(self):
        one, two = found(raw(package_of(RELEASE, {**RELEASE, "id": "2"})))
        assert (one.release["id"], str(one.place), one.version) == ("1", "f.json /releases/0", "1.1")
        assert str(two.place) == "f.json /releases/1"
        assert one.package["uri"] == "https://example.com/1"
        assert "releases" not in one.package

    def test_a_release_alone_is_1_0_unless_it_has_parties(self):
        assert [one.version for one in found(raw(RELEASE))] == ["1.0"]
        assert [one.version for one in found(raw({**RELEASE, "parties": []}))] == ["1.1"]

    @pytest.mark.parametrize(("said", "version"), [("1.0", "1.0"), ("1.1", "1.1"), ("1.1.5", "1.1"), (None, "1.0")])
    def test_versions(self, said, version):
        document = package_of(RELEASE)
        if said is None:
            del document["version"]
        else:
            document["version"] = said
        assert [one.version for one in found(raw(document))] == [version]

    def test_json_lines_of_releases_and_packages_are_streamed(self):
        lines = b"\n".join([raw(RELEASE), b"", raw(package_of(RELEASE, RELEASE)), b"   ", raw(RELEASE), b""])
        assert [str(one.place) for one in found(lines)] == [
            "f.json line 1",
            "f.json line 3 /releases/0",
            "f.json line 3 /releases/1",
            "f.json line 5",
        ]

    def test_lines_are_read_as_they_are_needed(self):
        source = BytesIO(raw(RELEASE) + b"\n" + raw(RELEASE) + b"\n" + b'{"broken')
        releases = read(source, "f.jsonl")
        next(releases)
        assert source.tell() < len(source.getvalue())
        next(releases)
        with pytest.raises(UnreadableFileError, match="line 3"):
            next(releases)

    def test_a_byte_order_mark_blank_lines_and_carriage_returns_are_nothing(self):
        content = b"\xef\xbb\xbf\r\n\r\n" + json.dumps(package_of(RELEASE), indent=1).replace("\n", "\r\n").encode()
        assert [one.release for one in found(content)] == [RELEASE]

    @pytest.mark.parametrize("path", SIX, ids=lambda path: path.stem[-12:])
    def test_the_sample_files(self, path):
        (one,) = read(path.read_bytes(), path.name)
        assert one.version == "1.1"
        assert one.release["ocid"] == "ocds-213czf-000-00001"

    @pytest.mark.parametrize("path", sorted((DATA / "made_1_0").glob("*.json")), ids=lambda path: path.stem)
    def test_the_1_0_files(self, path):
        assert [one.version for one in read(path.read_bytes(), path.name)] == ["1.0"]

    def test_the_same_release_has_the_same_fingerprint_however_it_is_laid_out(self):
        (one,) = found(raw(RELEASE))
        (two,) = found(json.dumps(dict(reversed(RELEASE.items())), indent=3).encode())
        (other,) = found(raw({**RELEASE, "language": "en"}))
        assert one.fingerprint == two.fingerprint != other.fingerprint

    def test_numbers_that_only_look_alike_have_other_fingerprints(self):
        (one,) = found(raw(RELEASE)[:-1] + b', "x": 1}')
        (two,) = found(raw(RELEASE)[:-1] + b', "x": "1"}')
        assert one.fingerprint != two.fingerprint


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "f.json: the file is empty."),
            (b"\n \n", "f.json: the file is empty."),
            (b"\xef\xbb\xbf", "f.json: the file is empty."),
            (b'{"ocid": "\xff"}', "f.json: not UTF-8 at line 1, byte 11. Save the file as UTF-8."),
            (b'{\n"ocid": "x",\n"a": "\xe4"}', "f.json: not UTF-8 at line 3, byte 7. Save the file as UTF-8."),
            (raw(RELEASE) + b'\n{"a": "\xe4"}', "f.json: not UTF-8 at line 2, byte 8. Save the file as UTF-8."),
            ('{"ocid": "x"}'.encode("utf-16"), "f.json: this is UTF-16 text, not JSON in UTF-8."),
            (b"PK\x03\x04rest", "f.json: this is a ZIP file or a spreadsheet, not JSON in UTF-8."),
            (b"\x1f\x8b\x08rest", "f.json: this is compressed with gzip, not JSON in UTF-8."),
            (b"%PDF-1.7", "f.json: this is a PDF, not JSON in UTF-8."),
            (b'{"ocid": "a\x00b"}', "f.json: line 1, column 12: there is a NUL byte."),
            (b'{"ocid":\n"a\x00b"}', "f.json: line 2, column 3: there is a NUL byte."),
            (
                b'{"ocid": "x",\n "id": ',
                "f.json: line 2, column 8: the JSON ends too early; the file may be truncated.",
            ),
            (b'{"ocid": "x" "id": 1}', "f.json: line 1, column 14: this is not JSON (expecting ',' delimiter)."),
            (b"\n\nnonsense", "f.json: line 3, column 1: this is not JSON (expecting value)."),
            (b'{"ocid": "x", "ocid": "y"}', 'f.json: line 1, column 15: the key "ocid" stands twice in one object.'),
            (b'{\n"ocid": "x",\n"ocid": "y"}', 'f.json: line 3, column 1: the key "ocid" stands twice in one object.'),
            (b'{"a": NaN}\n{"b": 1}', "f.json: line 1, column 7: NaN is not a number of JSON."),
            (raw(RELEASE) + b"\n" + b'{"a": Infinity}', "f.json: line 2, column 7: Infinity is not a number of JSON."),
            (
                raw(RELEASE) + b"\n\n" + b'{"a": 1',
                "f.json: line 3, column 8: the JSON ends too early; the file may be truncated.",
            ),
            (b"[" * 100_000, "f.json: line 1, column 65: objects and lists are nested more than 64 deep."),
            (
                b'{"a":\n' + b"[" * 70 + b"]" * 70 + b"}",
                "f.json: line 2, column 64: objects and lists are nested more than 64 deep.",
            ),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_unreadable_files(self, content, message):
        with pytest.raises(UnreadableFileError) as caught:
            found(content)
        assert caught.value.detail == message
        assert caught.value.status == 400

    @pytest.mark.parametrize("path", SIX, ids=lambda path: path.stem[-12:])
    def test_every_truncation_of_a_real_file_is_refused(self, path):
        content = path.read_bytes().rstrip()
        for end in range(0, len(content), 97):
            with pytest.raises(UnreadableFileError):
                found(content[:end])

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            (7, "f.json: a number, where an OCDS release or release package (an object) is needed."),
            ("text", "f.json: a text, where an OCDS release or release package (an object) is needed."),
            (None, "f.json: null, where an OCDS release or release package (an object) is needed."),
            (True, "f.json: true or false, where an OCDS release or release package (an object) is needed."),
            ([RELEASE], "f.json: a list, where an OCDS release or release package (an object) is needed."),
            ({}, "f.json: neither `releases` nor an `ocid`: not an OCDS release or release package."),
            ({"releases": {}}, "f.json /releases: an object, where a list of releases is needed."),
            ({"releases": [RELEASE, "x"]}, "f.json /releases/1: a text, where a release (an object) is needed."),
            ({"releases": []}, "f.json: the package holds no releases."),
            (
                {"version": "1.2", "releases": []},
                'f.json /version: version "1.2" of OCDS is not understood; 1.0 and 1.1 are.',
            ),
            (
                {"version": "11", "releases": []},
                'f.json /version: version "11" of OCDS is not understood; 1.0 and 1.1 are.',
            ),
            ({"version": 1.1, "releases": []}, 'f.json /version: a number, where a text such as "1.1" is needed.'),
            (
                {"version": "\x1b[0m", "releases": []},
                'f.json /version: version "\\x1b[0m" of OCDS is not understood; 1.0 and 1.1 are.',
            ),
            (
                {"version": "1.1", "records": [{"ocid": "x"}]},
                "f.json: this is an OCDS record package. Import the release packages that its records were made of.",
            ),
            ({"ocid": "x", "releases": []}, "f.json: this is an OCDS record. Import the releases that it was made of."),
            ({"compiledRelease": {}}, "f.json: this is an OCDS record. Import the releases that it was made of."),
            (
                {"$schema": "http://json-schema.org/draft-04/schema#"},
                "f.json: this is not data but a schema or a table of codes.",
            ),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_other_json(self, document, message):
        with pytest.raises(NotOcdsError) as caught:
            found(raw(document))
        assert caught.value.detail == message
        assert caught.value.status == 422

    @pytest.mark.parametrize(
        "document",
        [
            {
                "version": "0.9",
                "uri": "u",
                "publisher": {},
                "projects": [{"id": "oc4ids-bu3kcz-x", "contractingProcesses": []}],
            },
            {"id": "oc4ids-bu3kcz-x", "title": "A road", "status": "maintenance"},
        ],
    )
    def test_an_oc4ids_file_is_named_for_what_it_is(self, document):
        with pytest.raises(NotOcdsError, match=r"a project file of OC4IDS.*not an OCDS release"):
            found(raw(document))

    def test_the_line_of_a_wrong_document_is_named(self):
        with pytest.raises(NotOcdsError, match=r"f\.json line 2: neither"):
            found(raw(RELEASE) + b"\n{}")


class TestLimits:
    def test_a_document_over_the_limit(self):
        document = json.dumps(package_of({**RELEASE, "x": "y" * 1000}), indent=1).encode()
        assert found(document, document_bytes=len(document))
        with pytest.raises(FileTooLargeError, match=r"f.json: over the limit of 1,000 bytes. Split it") as caught:
            found(document, document_bytes=1000)
        assert caught.value.status == 413

    def test_one_long_line_over_the_limit(self):
        with pytest.raises(FileTooLargeError):
            found(raw({**RELEASE, "x": "y" * 1000}), document_bytes=1000)

    def test_many_lines_may_be_more_than_one_document(self):
        lines = b"\n".join([raw(RELEASE)] * 20)
        assert len(found(lines, document_bytes=500)) == 20
        with pytest.raises(FileTooLargeError, match="over the limit of 1,000 bytes"):
            found(lines, document_bytes=500, file_bytes=1000)

    def test_an_endless_run_of_blank_lines_is_not_read_for_ever(self):
        with pytest.raises(FileTooLargeError):
            found(b"\n" * 100_001, document_bytes=1000, file_bytes=100_000)

    def test_the_number_of_releases(self):
        with pytest.raises(FileTooLargeError, match="more than 2 releases in one file; split it"):
            found(raw(package_of(RELEASE, RELEASE, RELEASE)), releases=2)

    def test_ten_megabytes_are_the_default(self):
        with pytest.raises(FileTooLargeError, match="10,000,000 bytes"):
            found(b'{"ocid": "' + b"x" * 10_000_000 + b'"}')
