"""What a component's class must be before a run may use it: there, of its role's interface, complete, with its signatures.

The check imports the class, and with it torch, so it stands at the beginning of a run and not where plugins register.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable

from ptqbench.errors import PluginError
from ptqbench.plugin.component import Bound, Component
from ptqbench.plugin.hookspecs import ROLES, Role
from ptqbench.plugin.names import nearest, role_words
from ptqbench.plugin.sources import PluginInfo, failure_of, quietly

_ROLES = {role.name: role for role in ROLES}
_CONTEXT = {
    "weight-quantizer": ("spec", "layout", "estimator"),
    "activation-quantizer": ("spec", "layout", "estimator"),
    "range": ("levels",),
}
"""What the engine passes by keyword beside the options; the interfaces' docstrings say what each is."""


def check_classes(chosen: Iterable[Bound]) -> None:
    """Import the class of each component and hold it to its role's interface.

    Raises `PluginError` for all that cannot be used: its message names component, plugin, interface and what is missing.
    """
    found: list[PluginError] = []
    for bound in {(bound.role, bound.plugin, bound.name): bound for bound in chosen}.values():
        try:
            check_class(bound.component, bound.plugin)
        except PluginError as error:
            found.append(error)
    if len(found) == 1:
        raise found[0]
    if found:
        numbered = "\n".join(f"{i}. {error}" for i, error in enumerate(found, start=1))
        raise PluginError(f"{len(found)} components cannot be used\n{numbered}")


def check_class(component: Component, plugin: str) -> type:
    """The class behind a component. Raises `PluginError` as `check_classes` does."""
    known = _ROLES[component.role]
    owner = f'the {role_words(component.role)} "{component.name}" of plugin "{plugin}"'
    found = _load(component, owner)
    wrong = _wrong_class(found, known) or _wrong_constructor(found, known) or _wrong_methods(found, known)
    if wrong:
        raise PluginError(f"{owner} cannot be used: {wrong[0]}", wrong[1])
    return found


def _load(component: Component, owner: str) -> type:
    try:
        found = quietly(component.load)
    except Exception as error:  # a plugin's module may raise anything
        module = str(component.target).partition(":")[0]
        failure = failure_of(PluginInfo(component.name, "", "", module), error)
        place = f" at {failure.where}" if failure.where else ""
        message = f"{owner} cannot be imported from {component.target}: {failure.reason}{place}"
        raise PluginError(message, "mend the module, or the component's target") from error
    if not isinstance(found, type):
        raise PluginError(f"{owner} is {type(found).__name__} and no class", f"let {component.target} name a class")
    return found


def _wrong_class(found: type, role: Role) -> tuple[str, str] | None:
    """What keeps a class from being of the interface, and the remedy."""
    interface = _interface(role)
    if not issubclass(found, interface):
        return (
            f"its class {found.__name__} is no subclass of {role.interface}",
            f"write class {found.__name__}({role.interface}), from ptqbench.roles.{role.module} import {role.interface}",
        )
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if not missing:
        return None
    own = [name for name, value in vars(found).items() if callable(value) and not hasattr(interface, name)]
    guesses = [f"its {close} is perhaps meant as {name}" for name in missing if (close := nearest(name, own))]
    remedy = f"{role.path} says what each gets and returns"
    words = ", ".join(f"{name}()" for name in missing)
    return f"its class {found.__name__} lacks {words}, which {role.interface} asks for", "; ".join([*guesses, remedy])


def _interface(role: Role) -> type:
    found: type = getattr(importlib.import_module(f"ptqbench.roles.{role.module}"), role.interface)
    return found


def _wrong_methods(found: type, role: Role) -> tuple[str, str] | None:
    """A method that does not take what the interface's takes, or one that is perhaps misspelt, and the remedy."""
    interface = _interface(role)
    known = {name: method for name, method in vars(interface).items() if _is_method(name, method)}
    for name, method in known.items():
        error = _misfit(getattr(found, name), method)
        if error:
            wanted = str(inspect.signature(getattr(method, "__func__", method))).replace("'", "")
            return f"its {name}() does not take what {role.interface} gives it: {error}", f"write def {name}{wanted}"
    inherited = {name for name in known if getattr(found, name) is getattr(interface, name)}
    for name, method in vars(found).items():
        close = nearest(name, inherited, 0.8) if _is_method(name, method) and not hasattr(interface, name) else ""
        if close and not _misfit(method, known[close]):
            words = f"its {name}() is called by nobody, and {close}() is not there"
            return words, f"did you mean {close}? A method of your own begins with an underscore"
    return None


def _is_method(name: str, value: object) -> bool:
    return not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod))


def _misfit(method: object, wanted: object) -> str:
    """Why a method cannot be called with everything that another one takes; "" if it can."""
    plain = getattr(wanted, "__func__", wanted)
    parameters = list(inspect.signature(plain).parameters.values())  # type: ignore[arg-type]
    by_name = {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY}
    # What a bound method is called with: a class method has its class already.
    own = parameters[1:] if inspect.ismethod(method) else parameters
    try:
        inspect.signature(method).bind(*[None for p in own if p.name not in by_name], **by_name)  # type: ignore[arg-type]
    except TypeError as error:
        return str(error)
    except ValueError:
        pass  # made in C, without a signature
    return ""


def _wrong_constructor(found: type, role: Role) -> tuple[str, str] | None:
    """What keeps the engine from building the class, and the remedy."""
    context = _CONTEXT.get(role.name, ())
    try:
        inspect.signature(found).bind(None, **dict.fromkeys(context))
    except TypeError as error:
        call = ", ".join(["options", *(f"{name}=..." for name in context)])
        return (
            f"its class {found.__name__} cannot be built as {found.__name__}({call}): {error}",
            f"leave out __init__, or let it take what {role.path} says",
        )
    except ValueError:
        # A class without a signature (made in C) shows what it takes only when it is built.
        pass
    return None
