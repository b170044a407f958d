from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
import sys
from servable.errors import ConversionError
from servable.convert.save import save

FACTORS = [1.0, 2.0]

class Doubler:
    def predict(self, x):
        return x * FACTORS[1]

{body}
"""
SAVE = """
try:
    print(save(Doubler(), sys.argv[1], examples=[[1.0], [2.0]]))
except ConversionError as error:
    print("refused:", error)
"""


def run_script(tmp_path, body):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(body=body))
    done = subprocess.run(
        [sys.executable, script, tmp_path / "models" / "m"], check=True, text=True, capture_output=True, timeout=60
    )
    return done.stdout.strip()


def test_a_script_with_a_guard_is_taken(tmp_path):
    body = 'if __name__ == "__main__":' + textwrap.indent(SAVE, "    ")
    assert run_script(tmp_path, body) == "m/1"


def test_a_script_that_would_run_again_is_refused_with_the_line(tmp_path):
    assert "train.py, line 13: the script would run again" in run_script(tmp_path, SAVE)


def test_a_relative_import_is_refused(tmp_path, monkeypatch):
    from servable.convert.python_source import module_source
    from servable.errors import ConversionError

    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("")
    (package / "models.py").write_text("from . import helper\n\nclass A:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    from some_package.models import A

    with pytest.raises(ConversionError, match=r"models\.py, line 1: a relative import"):
        module_source(A)


def test_a_class_without_a_file_is_refused():
    from servable.convert.python_source import module_source
    from servable.errors import ConversionError

    made = type("Made", (), {"__module__": "nowhere"})
    with pytest.raises(ConversionError, match="no source file"):
        module_source(made)
    with pytest.raises(ConversionError, match="no source file"):
        module_source(int)


def test_a_module_beside_the_program_is_refused_by_name(tmp_path, monkeypatch):
    from servable.convert.python_source import module_source
    from servable.errors import ConversionError

    (tmp_path / "my_own_helper.py").write_text("factor = 2\n")
    source = "import numpy\nimport servable\nfrom my_own_helper import factor\n\nclass A:\n    pass\n"
    (tmp_path / "my_own_model.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    from my_own_model import A

    with pytest.raises(ConversionError, match=r"my_own_model\.py imports my_own_helper, which") as caught:
        module_source(A)
    assert "install it" in (caught.value.hint or "")
