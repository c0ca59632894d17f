"""Pieces of work side by side: order, threads, gradients, and the operator's bits."""

import multiprocessing
import threading

import pytest
import torch

from optics import DefocusOperator
from optics.threads import side_by_side


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def test_results_come_in_order_whoever_is_first(two_threads):
    second_done = threading.Event()

    def work(item):
        # The first waits for the second, which only another thread can do meanwhile.
        assert second_done.wait(30) if item == 0 else second_done.set() is None
        return item

    assert list(side_by_side(work, range(5))) == [0, 1, 2, 3, 4]


def test_each_thread_computes_alone_and_without_gradients(two_threads):
    def work(_):
        # A thread asks for its number of threads when it first needs several.
        torch.ones(1 << 20).sqrt()
        return threading.current_thread().name, torch.get_num_threads(), torch.is_grad_enabled()

    seen = list(side_by_side(work, range(8)))
    assert all((threads, gradients) == (1, False) for _, threads, gradients in seen)
    assert threading.current_thread().name not in {name for name, *_ in seen}
    assert torch.get_num_threads() == 2


def test_the_number_of_threads_comes_back_after_an_error(two_threads):
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda item: 1 / item, [1, 0, 2]))
    assert torch.get_num_threads() == 2
    results = side_by_side(lambda item: item, [1, 2, 3])
    next(results)
    results.close()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("case", ["one thread", "one item", "gradients", "within"])
def test_what_cannot_be_shared_stays_in_its_thread(two_threads, case):
    here = threading.get_ident()
    if case == "one thread":
        torch.set_num_threads(1)
    if case == "within":
        outer = side_by_side(lambda _: (threading.get_ident(), list(side_by_side(_ident, "ab"))), "cd")
        assert all(inner == [thread, thread] for thread, inner in outer)
        return
    with torch.set_grad_enabled(case == "gradients"):
        assert set(side_by_side(_ident, [0] if case == "one item" else [0, 1])) == {here}


def _ident(_: object) -> int:
    return threading.get_ident()


@pytest.mark.parametrize("scales", [None, (0.9, 1.0, 1.1)])
def test_the_operator_gives_the_same_bits(two_threads, scales):
    generator = torch.Generator().manual_seed(0)
    radius_map = 6 * torch.rand(1, 1, 90, 110, generator=generator)
    radius_map[..., :30, :40] = 0
    operator = DefocusOperator(radius_map, block=32, channel_scales=scales)
    x = torch.randn(2, 3, *operator.canvas_size, generator=generator)
    y = torch.randn(2, 3, *operator.capture_size, generator=generator)
    shared = operator(x), operator.adjoint(y), operator.normal(x, y.square())
    torch.set_num_threads(1)
    alone = operator(x), operator.adjoint(y), operator.normal(x, y.square())
    assert all(torch.equal(one, other) for one, other in zip(shared, alone, strict=True))


def test_a_forked_process_has_threads_of_its_own(two_threads):
    assert list(side_by_side(abs, [-1, -2])) == [1, 2]
    queue = multiprocessing.get_context("fork").Queue()
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(queue,), daemon=True)
    child.start()
    assert queue.get(timeout=60) == [3, 4]
    child.join()


def _in_child(queue: multiprocessing.Queue) -> None:
    with torch.no_grad():
        queue.put(list(side_by_side(abs, [-3, -4])))
