"""The stub says what the module has: each name, with the same parameters and defaults, and nothing else."""

import ast
import inspect
import os
import sys
import unittest

import flagshm
from flagshm import _flagshm

PACKAGE = os.path.dirname(flagshm.__file__)


def parameters_of(function):
    """(name, kind, default) of a def; Ellipsis: some default."""
    args = function.args
    positional = args.posonlyargs + args.args
    defaults = [None] * (len(positional) - len(args.defaults)) + args.defaults
    found = [(arg.arg, "positional", default) for arg, default in zip(positional, defaults)]
    found += [(arg.arg, "named", default) for arg, default in zip(args.kwonlyargs, args.kw_defaults)]
    return [(name, kind, "none" if default is None else ast.literal_eval(default)) for name, kind, default in found]


def parameters_here(function):
    found = []
    for parameter in inspect.signature(function).parameters.values():
        kind = "named" if parameter.kind is parameter.KEYWORD_ONLY else "positional"
        found.append((parameter.name, kind, "none" if parameter.default is parameter.empty else parameter.default))
    return found


def public(names):
    return {name for name in names if not name.startswith("_")}


class Stubs(unittest.TestCase):
    def setUp(self):
        with open(os.path.join(PACKAGE, "_flagshm.pyi"), encoding="utf-8") as stub:
            self.tree = ast.parse(stub.read())
        self.classes = {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}

    def members(self, name):
        return {node.name: node for node in self.classes[name].body if isinstance(node, ast.FunctionDef)}

    def test_the_package_is_marked_as_typed(self):
        self.assertTrue(os.path.exists(os.path.join(PACKAGE, "py.typed")))

    def test_each_name_is_in_both(self):
        names = {node.target.id for node in self.tree.body if isinstance(node, ast.AnnAssign)}
        names |= {node.name for node in self.tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        self.assertEqual(public(names), public(vars(_flagshm)))
        for name in names:
            self.assertTrue(hasattr(_flagshm, name), name)
        for name, here in (("Decision", flagshm.Decision), ("Flags", _flagshm.Flags)):
            self.assertEqual(public(self.members(name)), public(vars(here)), name)

    def test_parameters_and_defaults_are_the_same(self):
        compared = 0
        for class_name, here in (("Decision", flagshm.Decision), ("Flags", _flagshm.Flags)):
            for name, node in self.members(class_name).items():
                if name.startswith("_"):
                    continue
                is_property = any(getattr(decorator, "id", "") == "property" for decorator in node.decorator_list)
                member = vars(here)[name]
                self.assertEqual(is_property, inspect.isgetsetdescriptor(member), name)
                self.assertTrue(member.__doc__, name)
                if not is_property:
                    self.assertEqual(parameters_of(node), parameters_here(member), name)
                    compared += 1
        self.assertGreater(compared, 10)
        if sys.version_info >= (3, 10):  # before, a class of C has no signature
            self.assertEqual(parameters_of(self.members("Flags")["__new__"])[1:], parameters_here(flagshm.Flags))

    def test_a_decision_s_fields_are_the_constructor_s(self):
        named = [name for name, kind, _ in parameters_of(self.members("Decision")["__new__"]) if kind == "named"]
        self.assertEqual(named, list(flagshm.Decision().asdict()))
        for name, value in flagshm.Decision().asdict().items():
            self.assertEqual(getattr(flagshm.Decision(), name), value, name)

    def test_types_of_attributes_are_as_the_stub_says(self):
        for name, holder in (("Decision", flagshm.Decision()), ("Flags", flagshm.Flags("nobody-serves-this"))):
            for member, node in self.members(name).items():
                if any(getattr(decorator, "id", "") == "property" for decorator in node.decorator_list):
                    wanted = ast.unparse(node.returns)
                    self.assertIn(type(getattr(holder, member)).__name__, wanted, member)

    def test_what_the_package_exports_exists_and_is_documented(self):
        for name in flagshm.__all__:
            self.assertTrue(hasattr(flagshm, name), name)
        for name in ("Call", "Decision", "Event", "Flags", "Reason"):
            self.assertTrue(getattr(flagshm, name).__doc__, name)
        self.assertTrue(flagshm.Flags.call.__doc__)


if __name__ == "__main__":
    unittest.main()
