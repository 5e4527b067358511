"""The README and the pages: links lead to files, the config is the same everywhere, the reference is complete."""

import ast
import re
from pathlib import Path

import pytest
import yaml

import rtmdet_plugin
import rtmdet_runtime

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = [*ROOT.glob('*.md'), *DOCS.glob('*.md'), *ROOT.glob('projects/*/README.md')]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and mkdocs make them."""
    titles = re.findall(r'^#+ (.*)$', page.read_text(), flags=re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title).lower().replace(' ', '-') for title in titles}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if target.startswith(('http://', 'https://')):
            continue
        path, _, anchor = target.partition('#')
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_the_config_of_the_readme_is_that_of_the_page():
    """test_end_to_end.py trains with it."""
    blocks = [
        re.search(r'```python\n(# cats\.py\n.*?)```', page.read_text(), flags=re.DOTALL)[1]
        for page in (ROOT / 'README.md', DOCS / 'own_data.md')
    ]
    assert blocks[0] == blocks[1]


def test_the_model_table_of_the_readme_is_that_of_the_page():
    """The page has the reported latency as well, and a second table, of the larger models."""
    tables = []
    for page in (ROOT / 'README.md', DOCS / 'configs.md'):
        rows = [line.split(' | ') for line in page.read_text().splitlines() if line.startswith('| [`rtmdet_')]
        tables.append([[row[0].replace('../', ''), *row[1:4], row[-1]] for row in rows])
    assert tables[0] == tables[1][:6] and len(tables[0]) == 6


MODELS = {model['Name']: model for model in yaml.safe_load((ROOT / 'configs' / 'metafile.yml').read_text())['Models']}


def figures(name: str) -> list[str]:
    """Parameters, FLOPs, box AP and, of RTMDet-Ins, mask AP in configs/metafile.yml, as the pages write them."""
    model = MODELS[name]
    reported = {name: ap for result in model.get('Results', []) for name, ap in result['Metrics'].items()}
    aps = [reported.get('box AP (reported)', 'not reported'), *[reported.get('mask AP (reported)')] * ('_ins_' in name)]
    return [f'{model["Metadata"][key]:.2f}' for key in ('Parameters (M)', 'FLOPs (G)')] + [str(ap) for ap in aps]


@pytest.mark.parametrize('page', [ROOT / 'README.md', DOCS / 'configs.md'], ids=lambda page: page.name)
def test_the_figures_of_the_models_are_those_of_the_metafile(page):
    rows = re.findall(r'^\| \[`(rtmdet_\w+)`\][^|]*\|(.*)\|$', page.read_text(), flags=re.MULTILINE)
    assert len(rows) == (6 if page.name == 'README.md' else len(MODELS) - 1), 'all but rtmdet_nano'
    for name, cells in rows:
        expected = figures(name)
        assert [cell.strip() for cell in cells.split('|')[: len(expected)]] == expected, name


@pytest.mark.parametrize('name', [name for name in MODELS if 'nano' not in name])
def test_the_header_of_a_config_has_the_figures_of_the_metafile(name):
    params, flops, ap, *mask_ap = figures(name)
    header = ast.get_docstring(ast.parse((ROOT / 'configs' / f'{name}.py').read_text()))
    assert f'box AP {ap} on val2017' in header and f'{params} M parameters, {flops} GFLOPs' in header
    assert all(f'mask AP {value},' in header for value in mask_ap)


def registered() -> set[str]:
    """Names of the classes and functions that are registered in mmdet's registries, read from the sources."""
    found = set()
    for path in (ROOT / 'rtmdet_plugin').rglob('*.py'):
        module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        for node in ast.parse(path.read_text()).body:
            decorators = [ast.unparse(part) for part in getattr(node, 'decorator_list', [])]
            if any('.register_module(' in decorator for decorator in decorators):
                found.add(f'{module}.{node.name}')
    return found


def test_the_reference_has_each_public_name_and_registered_type():
    documented = re.findall(r'^::: (\S+)$', (DOCS / 'reference.md').read_text(), flags=re.MULTILINE)
    types = registered()
    assert len(types) > 30 and types <= set(documented)
    names = [name.rpartition('.')[2] for name in documented if name not in types]
    assert sorted(names) == sorted({*rtmdet_plugin.__all__, *rtmdet_runtime.__all__} - {'__version__'})


def test_the_citation_names_the_version():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['version'] == rtmdet_plugin.__version__
    assert any('2212.07784' in str(reference) for reference in citation['references'])
