"""Walking through dataset wrappers."""

from types import SimpleNamespace

from rtmdet_plugin.datasets.tree import leaf_datasets, walk_datasets


def test_a_plain_dataset_is_its_own_leaf():
    plain = SimpleNamespace(pipeline='its own')
    assert leaf_datasets(plain) == [plain]


def test_wrappers_come_before_their_contents_in_order():
    a, b, c = (SimpleNamespace(name=name) for name in 'abc')
    repeat = SimpleNamespace(dataset=b)
    concat = SimpleNamespace(datasets=[a, repeat, c])
    assert list(walk_datasets(concat)) == [concat, a, repeat, b, c]
    assert leaf_datasets(concat) == [a, b, c]


def test_a_dataset_that_is_in_twice_is_visited_once():
    shared = SimpleNamespace()
    assert leaf_datasets(SimpleNamespace(datasets=[shared, SimpleNamespace(dataset=shared)])) == [shared]


def test_mmengines_slice_is_seen_through():
    class Slice:
        """Forwards unknown attributes, as the Runner's slice for `num_batch_per_epoch` does."""

        def __init__(self, dataset):
            self._dataset = dataset

        def __getattr__(self, name):
            return getattr(self._dataset, name)

    leaf = SimpleNamespace(pipeline='its own')
    assert leaf_datasets(Slice(SimpleNamespace(dataset=leaf))) == [leaf]
