"""Every file of a directory becomes a row or a count, in local directories and in object stores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyarrow import fs

from vidclf import storage
from vidclf.archive import directory
from vidclf.archive.directory import Contents, FileRules
from vidclf.errors import ConfigError
from vidclf.schema import RejectReason
from vidclf.video.rejection import VideoRejected
from vidclf.video.source import locate

MP4 = b"\x00\x00\x00\x18ftypisom" + bytes(20)


def touch(root: Path, *names: str, content: bytes = b"12345") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def listed(root: Path, rules: FileRules | None = None) -> Contents:
    return directory.list_directory(str(root), fs.LocalFileSystem(), str(root), rules or FileRules())


def names(contents: Contents) -> list[str]:
    return [relative for relative, _ in contents.videos]


def passed_over(contents: Contents) -> dict[str, str]:
    return {reason: f"{entry.count}: {entry}" for reason, entry in contents.passed_over.items()}


def test_a_link_to_a_parent_directory_leads_in_no_circle(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.mp4", "dog/b.mp4")
    (tmp_path / "cat" / "all").symlink_to("..")
    (tmp_path / "cat" / "self").symlink_to(".")
    contents = listed(tmp_path)
    assert contents.videos == [("cat/a.mp4", 5), ("dog/b.mp4", 5)]
    assert passed_over(contents) == {"links to directories that are listed elsewhere": "2: 'cat/all', 'cat/self'"}


def test_a_directory_keeps_its_own_path_however_many_links_lead_to_it(tmp_path: Path) -> None:
    touch(tmp_path, "archive/z/a.mp4", "elsewhere/b.mp4")
    root = tmp_path / "archive"
    (root / "a").symlink_to("z")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "d").symlink_to(tmp_path / "elsewhere")
    contents = listed(root)
    assert names(contents) == ["z/a.mp4", "c/b.mp4"]
    assert passed_over(contents) == {"links to directories that are listed elsewhere": "2: 'a', 'd'"}


def test_a_file_system_without_inode_numbers_tells_directories_apart_by_their_real_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "cat/a.mp4", "dog/b.mp4")
    (tmp_path / "cat" / "all").symlink_to("..")
    real_stat = os.stat

    def without_inode(path: str) -> os.stat_result:
        status = list(real_stat(path))
        status[1] = 0
        return os.stat_result(status)

    monkeypatch.setattr(directory.os, "stat", without_inode)
    contents = listed(tmp_path)
    assert names(contents) == ["cat/a.mp4", "dog/b.mp4"]
    assert contents.passed_over["links to directories that are listed elsewhere"].count == 1


def test_links_without_content_are_rows_that_end_as_not_found(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.mp4")
    (tmp_path / "cat" / "b.mp4").symlink_to("../.git/annex/objects/b.mp4")
    (tmp_path / "cat" / "c.mp4").symlink_to("c.mp4")
    (tmp_path / "cat" / "d.txt").symlink_to("nowhere.txt")
    (tmp_path / "dog").symlink_to("/nowhere")
    contents = listed(tmp_path)
    assert contents.videos == [("cat/a.mp4", 5), ("cat/b.mp4", None), ("cat/c.mp4", None)]
    assert contents.ignored == {"txt": 1}
    assert passed_over(contents) == {"links that lead nowhere": "1: 'dog'"}
    for name in ("b.mp4", "c.mp4"):
        with pytest.raises(VideoRejected) as rejected, locate(str(tmp_path / "cat" / name)):
            pass
        assert rejected.value.reason == RejectReason.NOT_FOUND


@pytest.mark.parametrize("sniff", [False, True])
def test_files_that_are_no_files_are_rows_that_end_as_not_a_video(tmp_path: Path, sniff: bool) -> None:
    touch(tmp_path, "cat/a.mp4", content=MP4)
    os.mkfifo(tmp_path / "cat" / "pipe.mp4")
    (tmp_path / "cat" / "directory.mp4").mkdir()
    touch(tmp_path, "cat/clip.mp4/inside.mp4", content=MP4)
    contents = listed(tmp_path, FileRules(sniff=sniff))
    assert sorted(names(contents)) == ["cat/a.mp4", "cat/clip.mp4/inside.mp4", "cat/directory.mp4", "cat/pipe.mp4"]
    for name in ("pipe.mp4", "directory.mp4"):
        with pytest.raises(VideoRejected) as rejected, locate(str(tmp_path / "cat" / name)):
            pass
        assert rejected.value.reason == RejectReason.NOT_A_VIDEO


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cat/._a.mp4", "1 hidden file or directory ('cat/._a.mp4')"),
        (".Trash-1000/files/a.mp4", "1 hidden file or directory ('.Trash-1000')"),
        (".git/annex/a.mp4", "1 hidden file or directory ('.git')"),
        ("#recycle/cat/old.mp4", "1 recycle bin ('#recycle')"),
        ("$RECYCLE.BIN/S-1-5/$R1.mp4", "1 recycle bin ('$RECYCLE.BIN')"),
        ("cat/@Recycle/a.mp4", "1 recycle bin ('cat/@Recycle')"),
        ("cat/@eaDir/v0.mp4/SYNOVIDEO_PREVIEW.mp4", "1 preview of a NAS ('cat/@eaDir')"),
        ("#snapshot/cat/a.mp4", "1 snapshot ('#snapshot')"),
        ("lost+found/a.mp4", "1 system directory ('lost+found')"),
        ("System Volume Information/a.mp4", "1 system directory ('System Volume Information')"),
        ("__MACOSX/cat/a.mp4", "1 system directory ('__MACOSX')"),
    ],
)
@pytest.mark.parametrize("is_local", [True, False])
def test_what_the_system_made_is_passed_over_and_counted(
    tmp_path: Path, name: str, reason: str, is_local: bool
) -> None:
    touch(tmp_path, "cat/a.mp4", name)
    filesystem = fs.LocalFileSystem() if is_local else fs.SubTreeFileSystem("/", fs.LocalFileSystem())
    contents = directory.list_directory("archive", filesystem, str(tmp_path), FileRules())
    assert contents.videos == [("cat/a.mp4", 5)]
    assert [f"{directory.counted_reason(kind, entry)} ({entry})" for kind, entry in contents.passed_over.items()] == [
        reason
    ]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), ("old",), ["cat/a.mp4", "cat/b.mov", "dog/c.mp4"]),
        ((), ("cat/old", "*.mov"), ["cat/a.mp4", "dog/c.mp4"]),
        ((), ("cat/**", "dog"), []),
        (("*.mov",), (), ["cat/b.mov"]),
        (("cat",), ("old",), ["cat/a.mp4", "cat/b.mov"]),
        (("dog/*", "cat/old"), (), ["cat/old/d.mp4", "dog/c.mp4"]),
        ((), ("OLD",), ["cat/a.mp4", "cat/b.mov", "cat/old/d.mp4", "dog/c.mp4"]),
    ],
)
@pytest.mark.parametrize("is_local", [True, False])
def test_globs_choose_files(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str], is_local: bool
) -> None:
    touch(tmp_path, "cat/a.mp4", "cat/b.mov", "cat/old/d.mp4", "dog/c.mp4")
    filesystem = fs.LocalFileSystem() if is_local else fs.SubTreeFileSystem("/", fs.LocalFileSystem())
    rules = FileRules(include=include, exclude=exclude)
    contents = directory.list_directory("archive", filesystem, str(tmp_path), rules)
    assert sorted(names(contents)) == expected
    assert set(contents.passed_over) <= {"excluded by --exclude", "not matched by --include"}


def test_only_three_of_many_are_named(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.mov" for number in range(5)))
    assert passed_over(listed(tmp_path, FileRules(exclude=("*.mov",)))) == {
        "excluded by --exclude": "5: '0.mov', '1.mov', '2.mov' and 2 more"
    }


@pytest.mark.parametrize("is_local", [True, False])
def test_sniffing_looks_at_the_bytes_instead_of_the_name(tmp_path: Path, is_local: bool) -> None:
    touch(tmp_path, "cat/a", "cat/b.bin", "cat/c.mp4", content=MP4)
    touch(tmp_path, "cat/code.ts", "cat/notes.txt", "cat/no", content=b"export const x = 1;")
    touch(tmp_path, "cat/empty.mp4", "cat/empty.txt", content=b"")
    filesystem = fs.LocalFileSystem() if is_local else fs.SubTreeFileSystem("/", fs.LocalFileSystem())
    contents = directory.list_directory("archive", filesystem, str(tmp_path), FileRules(sniff=True))
    assert names(contents) == ["cat/a", "cat/b.bin", "cat/c.mp4", "cat/empty.mp4"]
    assert contents.ignored == {"ts": 1, "txt": 2, "no extension": 1}


def test_an_object_store_is_listed_by_the_same_rules() -> None:
    filesystem, _ = storage.resolve("mock://bucket/archive")
    for path in ("archive/cat/a.mp4", "archive/cat/b.txt", "archive/.hidden/c.mp4", "archive/@eaDir/d.mp4"):
        filesystem.create_dir(os.path.dirname(path), recursive=True)
        with filesystem.open_output_stream(path) as stream:
            stream.write(b"12345")
    contents = directory.list_directory("mock://bucket/archive", filesystem, "archive", FileRules())
    assert contents.videos == [("cat/a.mp4", 5)]
    assert contents.ignored == {"txt": 1}
    assert passed_over(contents) == {
        "hidden files and directories": "1: '.hidden'",
        "previews of a NAS": "1: '@eaDir'",
    }


def unreadable(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Let the system refuse to list some directories; root may list them whatever their mode."""
    real_scandir = os.scandir

    def scandir(path: str) -> object:
        if Path(path) in paths:
            raise PermissionError(13, "Permission denied", path)
        return real_scandir(path)

    monkeypatch.setattr(directory.os, "scandir", scandir)


def test_unreadable_directories_are_counted_and_named_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "cat/a.mp4", "dog/b.mp4", "dog/private/c.mp4")
    unreadable(monkeypatch, tmp_path / "dog" / "private")
    contents = listed(tmp_path)
    assert names(contents) == ["cat/a.mp4", "dog/b.mp4"]
    assert passed_over(contents) == {"directories that cannot be read": "1: 'dog/private'"}
    with pytest.raises(ConfigError) as error:
        listed(tmp_path, FileRules(strict=True))
    assert str(error.value) == (
        f"--input {tmp_path}: holds 1 directory that cannot be read: 'dog/private'; make them readable, --exclude "
        "them, or leave out --strict"
    )
    assert names(listed(tmp_path, FileRules(strict=True, exclude=("private",)))) == ["cat/a.mp4", "dog/b.mp4"]


def test_an_archive_that_cannot_be_read_at_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unreadable(monkeypatch, tmp_path)
    with pytest.raises(ConfigError) as error:
        listed(tmp_path)
    assert str(error.value) == (
        f"--input {tmp_path}: cannot be listed ([Errno 13] Permission denied: '{tmp_path}/'); make it readable, or "
        "list the videos in a file"
    )


def test_a_name_that_is_not_utf8_matters_only_for_a_video(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for name in (b"a.mp4", b"n\xff.txt", b".\xff"):
        with open(os.fsencode(tmp_path) + b"/cat/" + name, "wb") as file:
            file.write(b"x")
    contents = listed(tmp_path)
    assert names(contents) == ["cat/a.mp4"]
    assert passed_over(contents) == {"hidden files and directories": r"1: 'cat/.\\udcff'"}
    assert contents.ignored == {"txt": 1}
    with open(os.fsencode(tmp_path) + b"/cat/b\xff.mp4", "wb") as file:
        file.write(b"x")
    with pytest.raises(ConfigError) as error:
        listed(tmp_path)
    assert str(error.value) == (f"--input {tmp_path}: file names must be UTF-8, rename b'{tmp_path}/cat/b\\xff.mp4'")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every directory")
def test_a_directory_without_permission_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.mp4", "dog/b.mp4")
    (tmp_path / "dog").chmod(0)
    try:
        contents = listed(tmp_path)
    finally:
        (tmp_path / "dog").chmod(0o700)
    assert names(contents) == ["cat/a.mp4"]
    assert passed_over(contents) == {"directories that cannot be read": "1: 'dog'"}
