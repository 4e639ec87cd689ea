"""The source neither unpickles nor evaluates what a file says: every call that could is looked for, in every file."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*(ROOT / "mmtrain").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")])

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch.serialization", "runpy"}
NAMES = {"eval", "exec", "__import__"}
ATTRIBUTES = {
    *("register_for_checkpointing", "unsafe_load", "full_load", "load_all", "read_pickle"),
    *("UnsafeLoader", "FullLoader", "system", "popen", "extractall", "load_module"),
}
CALLS = {"accelerator.save_state", "accelerator.load_state", "yaml.load", "np.load", "numpy.load", "torch.save"}
RESTRICTED = ROOT / "data_prep/importers/restricted_pickle.py"  # the one file that may import pickle, for one class of it
FLAGS = {"allow_pickle": True, "trust_remote_code": True, "shell": True, "weights_only": False}


def dangers(source: str) -> list[str]:
    """Line and words of every way to run what a file holds."""
    found = []
    for node in ast.walk(ast.parse(source)):
        words: str | None = None
        if isinstance(node, ast.Import):
            words = next((alias.name for alias in node.names if alias.name in MODULES), None)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            words = f"from {node.module}"
        elif isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            words = node.attr
        elif isinstance(node, ast.Call):
            words = danger_of_call(node)
        if words:
            found.append(f"line {node.lineno}: {words}")
    return found


def danger_of_call(node: ast.Call) -> str | None:
    name = ast.unparse(node.func)
    if name in NAMES | CALLS:
        return name
    for keyword in node.keywords:
        if keyword.arg in FLAGS and not (
            isinstance(keyword.value, ast.Constant) and keyword.value.value is not FLAGS[keyword.arg]
        ):
            return f"{name}({keyword.arg}=...)"
    if name == "torch.load" and "weights_only" not in {keyword.arg for keyword in node.keywords}:
        return "torch.load without weights_only"
    return None


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_can_run_what_it_reads(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert (unrestricted(source) if file == RESTRICTED else dangers(source)) == []


def unrestricted(source: str) -> list[str]:
    """Dangers of a file that may import pickle to refuse all but a list of names: anything beyond that one class."""
    tree = ast.parse(source)
    found = [danger for danger in dangers(source) if not danger.endswith(": pickle")]
    parents = [base for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle" and node not in parents:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.Name) and node.id in {"super", "getattr", "import_module"}:
            found.append(f"line {node.lineno}: {node.id}")
        if isinstance(node, ast.ClassDef) and [ast.unparse(base) for base in node.bases] == ["pickle._Unpickler"]:
            own = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            found += [f"line {node.lineno}: no {name}" for name in {"find_class", "get_extension"} - own]
    return found


def test_what_the_restricted_file_may_not_do_is_found() -> None:
    whole = "class Own(pickle._Unpickler):\n    def find_class(self, m, n): ...\n    def get_extension(self, c): ...\n"
    assert unrestricted(f"import pickle\n{whole}") == []
    assert unrestricted("import pickle\npickle.load(f)\n") == ["line 2: pickle.load"]
    assert unrestricted("import pickle\npickle.Unpickler(f)\n") == ["line 2: pickle.Unpickler"]
    assert unrestricted("import dill\n") == ["line 1: dill"]
    assert unrestricted("from pickle import loads\n") == ["line 1: from pickle"]
    assert unrestricted(whole + "    x = super().find_class\n") == ["line 4: super"]
    assert unrestricted(whole.replace("find_class", "find")) == ["line 1: no find_class"]


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.load(f, weights_only=flag)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(text, Loader)",
        "yaml.unsafe_load(text)",
        "accelerator.register_for_checkpointing(x)",
        "accelerator.load_state(folder)",
        "eval(text)",
        "AutoModel.from_pretrained(p, trust_remote_code=True)",
        "subprocess.run(words, shell=True)",
        "os.system(words)",
        "tar.extractall(folder)",
    ],
)
def test_what_is_looked_for_is_found(line: str) -> None:
    assert len(dangers(f"x = 1\n{line}\n")) == 1
    assert dangers("model.eval()\ntorch.load(f, weights_only=True)\nmodel.load_state_dict(x)\nrun(shell=False)\n") == []


def test_libraries_whose_readers_could_be_made_to_run_code_are_new_enough() -> None:
    """torch before 2.10 ran code from a file also with weights_only=True; pyarrow before 14.0.1 from a parquet file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    least = dict(re.match(r"([a-z0-9-]+)>=([0-9.]+)", line).groups() for line in project["dependencies"])  # type: ignore[union-attr]
    for name, needed in {"torch": (2, 10), "pyarrow": (15,), "pyyaml": (6,)}.items():
        assert tuple(int(part) for part in least[name].split(".")) >= needed, name
