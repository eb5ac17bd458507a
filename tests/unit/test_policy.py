"""Exploration, bundles and the policy in NumPy."""

import hashlib
import io
import json
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakehouse_schemas.decisions.cohort import in_holdout, subject_share
from bakehouse_schemas.errors import (
    BundleCorrupt,
    BundleError,
    ContractMismatch,
    UnsupportedOperation,
)
from bakehouse_schemas.execution.propensity import draw_action, executed_distribution, one_hot
from bakehouse_schemas.policy.bundle import ARRAYS, MANIFEST, Manifest, load_bundle, write_bundle
from bakehouse_schemas.policy.policy import Head, Policy


def test_exploration_mixes_the_policy_with_uniform_over_the_eligible():
    executed = executed_distribution(
        one_hot(1, 4), np.array([True, True, False, True]), epsilon=0.3, floor=0.01
    )
    assert executed == pytest.approx([0.1, 0.8, 0.0, 0.1])


def test_the_floor_raises_epsilon_where_it_must():
    executed = executed_distribution(one_hot(0, 2), np.ones(2, bool), epsilon=0.01, floor=0.05)
    assert executed == pytest.approx([0.95, 0.05])


@given(
    st.lists(st.booleans(), min_size=2, max_size=8).filter(any),
    st.floats(0.0, 1.0),
    st.floats(0.0, 0.12),
    st.floats(0.0, 1.0, exclude_max=True),
    st.integers(0, 7),
)
def test_no_eligible_action_falls_below_the_floor_and_no_other_is_drawn(
    mask, epsilon, floor, draw, best
):
    eligible = np.array(mask)
    chosen = int(np.flatnonzero(eligible)[best % eligible.sum()])
    executed = executed_distribution(
        one_hot(chosen, len(mask)), eligible, epsilon=epsilon, floor=floor
    )
    assert executed.sum() == pytest.approx(1.0)
    assert np.all(executed[eligible] >= floor - 1e-12)
    assert np.all(executed[~eligible] == 0.0)
    assert eligible[draw_action(executed, draw)]
    assert executed[draw_action(executed, draw)] > 0


def test_a_draw_selects_by_the_cumulative_probability():
    executed = np.array([0.2, 0.0, 0.5, 0.3])
    assert [draw_action(executed, u) for u in (0.0, 0.19, 0.2, 0.69, 0.7, 0.999)] == [
        0,
        0,
        2,
        2,
        3,
        3,
    ]


ARRAYS_OF_A_POLICY = {
    "normaliser_offset": np.array([0.5, 0.0], np.float32),
    "normaliser_scale": np.array([2.0, 1.0], np.float32),
    "normaliser_clip": np.array(5.0, np.float32),
    "w0": np.array([[1.0, -1.0], [0.0, 2.0]], np.float32),
    "b0": np.array([0.0, 0.5], np.float32),
}
OPERATIONS = [{"op": "dense", "weight": "w0", "bias": "b0"}, {"op": "relu"}]


def policy(**changes: object) -> Policy:
    made = {
        "operations": OPERATIONS,
        "head": Head(kind="argmax"),
        "arrays": ARRAYS_OF_A_POLICY,
        "actions": 2,
    } | changes
    return Policy(**made)  # type: ignore[arg-type]


def test_scores_are_the_network_of_the_normalised_observation():
    # x = (1.0, 0.25) → ((1 − 0.5)·2, 0.25) = (1, 0.25) → (1, −1 + 0.5 + 0.5) → relu (1, 0)
    scores = policy().scores(np.array([[1.0, 0.25]], np.float32))
    assert scores.tolist() == [[1.0, 0.0]]


def test_operations_run_in_the_order_in_which_they_are_written():
    x = np.array([[1.0, 0.25]], np.float32)
    raw = policy(operations=OPERATIONS[:1]).scores(x)  # (1, −0.0)
    turned = policy(operations=[*OPERATIONS[:1], {"op": "tanh"}, {"op": "relu"}])
    assert turned.scores(x) == pytest.approx(np.maximum(np.tanh(raw), 0))
    first = policy(operations=[{"op": "relu"}, *OPERATIONS[:1]]).scores(-x)
    # (−1, −0.25) → (−3, −0.25) → relu (0, 0) → the bias alone
    assert first.tolist() == [[0.0, 0.5]]


def test_a_context_near_float32s_limit_does_not_overflow():
    steep = ARRAYS_OF_A_POLICY | {"normaliser_scale": np.array([1e6, 1.0], np.float32)}
    scores = policy(arrays=steep).scores(np.array([[3e38, -3e38]], np.float32))
    assert np.all(np.isfinite(scores))


def test_the_best_eligible_action_has_all_of_an_argmax_policys_probability():
    observation = np.array([[1.0, 0.25], [1.0, 0.25]], np.float32)
    eligible = np.array([[True, True], [False, True]])
    assert policy().distribution(observation, eligible).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_softmax_head_is_worked_by_hand():
    soft = policy(head=Head(kind="softmax", temperature=1.0))
    (row,) = soft.distribution(np.array([[1.0, 0.25]], np.float32), np.ones((1, 2), bool))
    assert row == pytest.approx([np.e / (1 + np.e), 1 / (1 + np.e)])


def test_a_linear_head_adds_the_width_of_what_is_not_known():
    linear = policy(
        operations=[],
        head=Head(kind="linear", alpha=2.0),
        arrays={
            "normaliser_offset": np.zeros(1),
            "normaliser_scale": np.ones(1),
            "normaliser_clip": np.array(10.0),
            "theta": np.array([[1.0, 0.0], [0.0, 1.0]]),
            "inverse": np.stack([np.eye(2), 4.0 * np.eye(2)]),
        },
    )
    # x = (1, 3): means 1 and 3; widths √10 and √40
    (scores,) = linear.scores(np.array([[3.0]], np.float32))
    assert scores == pytest.approx([1 + 2 * 10**0.5, 3 + 2 * 40**0.5], rel=1e-6)


def test_a_network_outside_the_vocabulary_is_refused_by_name():
    with pytest.raises(UnsupportedOperation, match="lstm"):
        policy(operations=[{"op": "lstm"}])


def test_arrays_that_are_not_finite_or_do_not_fit_are_refused():
    with pytest.raises(BundleCorrupt, match="'b0' holds values that are not finite"):
        policy(arrays=ARRAYS_OF_A_POLICY | {"b0": np.array([np.nan, 0.0])})
    with pytest.raises(BundleCorrupt, match="numbers for the head 'argmax' of 3 actions"):
        policy(actions=3)


def manifest(**changes: object) -> Manifest:
    fields = {
        "application": "game",
        "contract": "c1",
        "version": 7,
        "lineage": "l1",
        "anchor": 0,
        "agent": "neural_greedy",
        "actions": ["a", "b"],
        "operations": OPERATIONS,
        "head": Head(kind="argmax"),
        "exploration": {"kind": "epsilon_greedy", "epsilon": 0.1, "floor": 0.01},
        "seed": 0,
        "replay_version": 3,
        "stream_time_ms": 5,
        "created_at_ms": 6,
        "experiences": 10,
        "new_experiences": 2,
        "new_outcomes_received_at_ms": [4],
    } | changes
    return Manifest.model_validate(fields)


@pytest.fixture
def written(tmp_path):
    folder = tmp_path / "game" / "7"
    sha256 = write_bundle(
        folder,
        manifest(),
        ARRAYS_OF_A_POLICY,
        golden_observations=np.array([[1.0, 0.25], [0.0, 1.0]], np.float32),
        golden_eligible=np.ones((2, 2), bool),
    )
    return folder, sha256


def load(folder, sha256, **changes):
    return load_bundle(
        folder, **({"application": "game", "contract": "c1", "sha256": sha256} | changes)
    )


def test_a_bundle_comes_back_as_it_was_written(written):
    loaded = load(*written)
    assert loaded.version == 7
    assert loaded.manifest.new_outcomes_received_at_ms == [4]
    observation = np.array([[1.0, 0.25]], np.float32)
    assert np.array_equal(loaded.policy.scores(observation), policy().scores(observation))
    assert [path.name for path in written[0].parent.iterdir()] == ["7"], "nothing left aside"


def test_a_bundle_of_another_contract_is_refused(written):
    with pytest.raises(ContractMismatch, match="contract c1; expected 'game', contract c2"):
        load(*written, contract="c2")


def test_a_bundle_of_other_actions_or_another_width_is_refused_whatever_its_contract_says(written):
    assert load(*written, labels=("a", "b"), dimensions=2).version == 7
    with pytest.raises(ContractMismatch, match=r"between \['a', 'b'\], 'game' between"):
        load(*written, labels=("b", "a"))
    with pytest.raises(ContractMismatch, match="takes 2 numbers; an observation of 'game' has 3"):
        load(*written, labels=("a", "b"), dimensions=3)


def test_a_truncated_a_swapped_and_a_foreign_file_are_refused(written, tmp_path):
    folder, sha256 = written
    with pytest.raises(BundleCorrupt, match="not the manifest that was published"):
        load(folder, "0" * 64)
    with pytest.raises(BundleError, match="only place to load policies from"):
        load(folder, sha256, inside=tmp_path / "elsewhere")
    content = (folder / ARRAYS).read_bytes()
    (folder / ARRAYS).write_bytes(content[:-10])
    with pytest.raises(BundleCorrupt, match="differs from its recorded SHA-256"):
        load(folder, sha256)
    (folder / ARRAYS).unlink()
    with pytest.raises(BundleCorrupt, match="No such file"):
        load(folder, sha256)
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(BundleCorrupt, match="version: field required"):
        load(folder, None)


def rewrite(folder, content: bytes | None = None, /, **arrays: object) -> None:
    """Other arrays (or another file), with a manifest whose hash is theirs."""
    if content is None:
        with np.load(folder / ARRAYS) as file:
            kept = {name: file[name] for name in file.files}
        packed = io.BytesIO()
        np.savez(packed, **{k: v for k, v in (kept | arrays).items() if v is not None})
        content = packed.getvalue()
    (folder / ARRAYS).write_bytes(content)
    changed = json.loads((folder / MANIFEST).read_text())
    changed["files_sha256"] = {ARRAYS: hashlib.sha256(content).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(changed))


def describe(folder, **changes: object) -> None:
    described = json.loads((folder / MANIFEST).read_text()) | changes
    (folder / MANIFEST).write_text(json.dumps(described))


def test_a_bundle_whose_golden_outputs_differ_is_refused(written):
    folder, _ = written
    rewrite(folder, golden_scores=np.array([[1.01, 0.0], [0.0, 3.5]]))
    with pytest.raises(BundleCorrupt, match="golden outputs differ by"):
        load(folder, None)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"golden_scores": np.full((2, 2), np.nan)}, "'golden_scores' holds .* not finite"),
        ({"golden_probabilities": np.full((2, 2), np.nan)}, "'golden_probabilities' holds"),
        ({"golden_probabilities": np.full((2, 2), 0.7)}, "do not add up to 1"),
        ({"golden_probabilities": None}, r"\['probabilities'\] are missing"),
        ({"golden_eligible": np.zeros((2, 2), bool)}, "no action is eligible"),
        ({"golden_observations": np.zeros((0, 2), np.float32)}, "at least one observation"),
        ({"normaliser_clip": np.ones(3, np.float32)}, "expected .D,., .D,. and ()"),
        ({"normaliser_offset": np.zeros((2, 2), np.float32)}, "expected .D,., .D,. and ()"),
        ({"w0": np.zeros((3, 2), np.float32)}, "layer w0 has shape"),
        ({"w0": np.full((2, 2), 1e300)}, "may reach"),
        ({"w0": np.array([["a", "b"]])}, "expected numbers or booleans"),
        ({"w0": np.ones((2, 2), np.complex64)}, "expected numbers or booleans"),
    ],
)
def test_a_bundle_whose_arrays_prove_nothing_or_could_answer_no_number_is_refused(
    written, arrays, says
):
    folder, _ = written
    rewrite(folder, **arrays)
    with pytest.raises(BundleCorrupt, match=says):
        load(folder, None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": "policy.v2"}, "schema: input should be 'policy.v1'"),
        ({"actions": []}, "actions: list should have at least 1"),
        ({"version": 1 << 70}, "version: input should be less than"),
        ({"head": {"kind": "softmax", "temperature": 1e-320}}, "temperature: input should be"),
        ({"head": {"kind": "linear"}}, "the linear head's array 'theta' is missing"),
        ({"operations": OPERATIONS * 501}, "1002 operations came; at most 1000"),
        ({"operations": [{"op": "dense", "weight": [], "bias": "b0"}]}, "TypeError: unhashable"),
    ],
)
def test_a_manifest_that_says_something_impossible_is_refused(written, changes, says):
    folder, _ = written
    describe(folder, **changes)
    with pytest.raises(BundleCorrupt, match=says):
        load(folder, None)


def test_a_linear_head_of_one_dimension_is_refused_with_words(written):
    folder, _ = written
    describe(folder, head={"kind": "linear"})
    rewrite(folder, theta=np.ones(3, np.float32), inverse=np.ones((3, 3), np.float32))
    with pytest.raises(BundleCorrupt, match=r"theta \(3,\) and inverse \(3, 3\) do not fit"):
        load(folder, None)


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)
    return packed.getvalue()


def header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HUGE = b"{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000,)}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "BadZipFile"),
        (zipped(("w0.npy", b"")), "w0.npy|ValueError"),
        (zipped(("w0.npy", header(b"{"))), "TokenError"),
        (zipped(("w0.npy", header(b"(" * 9_000))), "arrays.npz: "),
        (zipped(("w0.npy", header(HUGE))), "takes 400000000000 bytes, found 0"),
        (zipped(("w0.npy", header(HUGE.replace(b"<f4", b"|O")))), "is of object; expected numbers"),
        (zipped(("a.npy", b""), ("a", b"")), "holds an array twice"),
        (zipped(("a", bytes(999)), compression=zipfile.ZIP_LZMA)[:60], "BadZipFile"),
    ],
    ids=[
        *("empty", "empty array", "half a header", "deep header", "huge", "objects", "twice"),
        "truncated",
    ],
)
def test_a_file_of_arrays_that_is_damaged_or_lies_is_refused_before_it_is_believed(
    written, content, says
):
    folder, _ = written
    rewrite(folder, content)
    with pytest.raises(BundleCorrupt, match=says):
        load(folder, None)


def test_an_encrypted_member_and_an_unknown_compression_are_refused(written):
    folder, _ = written
    content = bytearray(zipped(("a.npy", bytes(9))))
    central = content.index(b"PK\x01\x02")
    for local_at, central_at, value, says in (
        (6, 8, 1, "RuntimeError: .*encrypted"),
        (8, 10, 99, "NotImplementedError: That compression method"),
    ):
        odd = bytearray(content)
        odd[local_at] = odd[central + central_at] = value
        rewrite(folder, bytes(odd))
        with pytest.raises(BundleCorrupt, match=says):
            load(folder, None)


def test_a_zip_that_would_unpack_to_more_than_the_bound_is_refused_unread(written):
    folder, _ = written
    content = bytearray(zipped(("a.npy", bytes(9)), ("b.npy", bytes(9))))
    at = -1
    for _ in range(2):  # each claims 300 MiB, which is under the bound; together they are not
        at = content.index(b"PK\x01\x02", at + 1)
        content[at + 24 : at + 28] = (300 << 20).to_bytes(4, "little")
    rewrite(folder, bytes(content))
    with pytest.raises(BundleCorrupt, match="unpacks to 629145600 bytes; at most 512 MiB"):
        load(folder, None)


def test_arrays_are_never_unpickled(written, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "unpickled"),)

    folder, _ = written
    rewrite(folder, w0=np.array([Evil()], dtype=object))
    with pytest.raises(BundleCorrupt, match="is of object"):
        load(folder, None)
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("name", [MANIFEST, ARRAYS])
def test_a_file_that_links_out_of_the_policies_folder_is_refused(written, tmp_path, name):
    folder, sha256 = written
    inside = tmp_path / "game"
    assert load(folder, sha256, inside=inside).version == 7
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match="only place to load policies from"):
        load(folder, sha256, inside=inside)
    assert load(folder, sha256).version == 7, "the same files, where no place is laid down"


def test_a_place_that_cannot_exist_a_loop_and_a_pipe_are_refused(written, tmp_path):
    folder, sha256 = written
    for impossible in (tmp_path / "a\0b", tmp_path / ("n" * 5_000)):
        with pytest.raises(BundleError):
            load(impossible, sha256, inside=tmp_path)
        with pytest.raises(BundleError):
            load(impossible, sha256)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(BundleError):
        load(tmp_path / "loop", sha256, inside=tmp_path)
    (folder / ARRAYS).unlink()
    os.mkfifo(folder / ARRAYS)  # reading it would wait for ever
    with pytest.raises(BundleCorrupt, match="is not a file"):
        load(folder, sha256)


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
    st.sampled_from([1e-38, 1.0, 1e30]),
    st.sampled_from([-3e38, 0.0, 3e38]),
)
def test_every_context_gets_numbers_from_a_policy_that_could_be_made(x, scale, offset):
    arrays = ARRAYS_OF_A_POLICY | {
        "normaliser_scale": np.full(2, scale, np.float32),
        "normaliser_offset": np.full(2, offset, np.float32),
    }
    try:
        made = policy(arrays=arrays)
    except BundleCorrupt:
        return
    assert np.all(np.isfinite(made.scores(np.array([x], np.float32))))


def test_a_policy_that_answers_no_number_is_never_written(tmp_path):
    folder = tmp_path / "game" / "8"
    huge = ARRAYS_OF_A_POLICY | {"w0": np.full((2, 2), 3e38, np.float32)}
    with pytest.raises(BundleCorrupt, match=r"may reach 3e.*not surely a finite number"):
        write_bundle(
            folder,
            manifest(version=8),
            huge,
            golden_observations=np.array([[5.0, 5.0]], np.float32),
            golden_eligible=np.ones((1, 2), bool),
        )
    assert not folder.exists()


def test_the_holdout_is_the_same_subjects_everywhere_and_about_its_share():
    shares = [subject_share("game", f"p{i}") for i in range(4000)]
    assert 0.08 < np.mean([s < 0.1 for s in shares]) < 0.12
    assert subject_share("game", "player-1") == pytest.approx(0.425793, abs=1e-6)
    assert not in_holdout("game", "player-1", 0.0)


def test_a_layer_norm_is_worked_by_hand():
    # (1, 0) → mean ½, variance ¼; with ε = 0.75 the deviation is 1: (½, −½) · (2, 4) + (0, 1)
    normed = policy(
        operations=[
            *OPERATIONS[:1],
            {"op": "relu"},
            {"op": "layer_norm", "weight": "w1", "bias": "b1", "epsilon": 0.75},
        ],
        arrays=ARRAYS_OF_A_POLICY | {"w1": np.array([2.0, 4.0]), "b1": np.array([0.0, 1.0])},
    )
    scores = normed.scores(np.array([[1.0, 0.25]], np.float32))
    np.testing.assert_allclose(scores, [[1.0, -1.0]], rtol=1e-6)


def test_a_leaky_relu_lets_a_share_of_what_is_below_through():
    leaky = policy(operations=[*OPERATIONS[:1], {"op": "leaky_relu", "slope": 0.25}])
    # x = (0, 1) → (−1, 1): (−1, 1 + 2 + 0.5)
    scores = leaky.scores(np.array([[0.0, 1.0]], np.float32))
    assert scores.tolist() == [[-0.25, 3.5]]


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        ({"op": "leaky_relu"}, "slope None"),
        ({"op": "leaky_relu", "slope": float("inf")}, "slope inf"),
        ({"op": "layer_norm", "weight": "b0", "bias": "b0", "epsilon": 0}, "epsilon 0"),
        ({"op": "layer_norm", "weight": "w0", "bias": "b0", "epsilon": 0.1}, r"\(2,\) twice"),
        ({"op": "layer_norm", "weight": "w9", "bias": "b0", "epsilon": 0.1}, "'w9'"),
    ],
)
def test_an_operation_whose_settings_are_impossible_is_refused(operation, says):
    with pytest.raises(BundleCorrupt, match=says):
        policy(operations=[*OPERATIONS[:1], operation])


def test_a_layer_norm_of_what_could_overflow_when_squared_is_refused():
    huge = ARRAYS_OF_A_POLICY | {"w0": np.full((2, 2), 1e19, np.float32)}
    norm = {"op": "layer_norm", "weight": "b0", "bias": "b0", "epsilon": 0.1}
    with pytest.raises(BundleCorrupt, match="inside of a layer_norm"):
        policy(operations=[*OPERATIONS[:1], norm], arrays=huge)
