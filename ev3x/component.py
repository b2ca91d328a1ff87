"""The base of every component: a frozen dataclass whose fields are its options."""

from __future__ import annotations

import abc
import dataclasses
import difflib
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar

import pydantic
from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

from .values import SEEDS, misfit32, plain, short, twice
from .values import checked_seed as checked_seed


def _unlike(names: tuple[str, ...]) -> tuple[str, ...]:
    if found := twice(names):
        raise ValueError(f"names {found[0]!r} twice, got {names!r}")
    return names


# Rounds count in int32 and compute in float32. Numbers are finite; only durations may be `inf`, for no limit.
Count = Annotated[int, Ge(1), Lt(2**31)]
Natural = Annotated[int, Ge(0), Lt(2**31)]
Many = Annotated[int, Ge(1), Le(2**20)]  # of candidates, which have a name each: names of 2^31 would fill the memory
Seed = Annotated[int, Ge(0), Lt(SEEDS)]
Real = float
Positive = Annotated[float, Gt(0)]
Seconds = Annotated[float, pydantic.AllowInfNan(True)]
Names = Annotated[tuple[str, ...], pydantic.AfterValidator(_unlike)]

ALLOWED = (
    "allowed are bool, int, float, str, Literal[...], tuple[...] and `| None` of these, frozen dataclasses, and values "
    'such as Loss (docs/plugin-api.md, "Types of options")'
)
_SCALARS = (bool, int, float, str)


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that is wrong with one option, as `Component.check` returns it.

    Attributes:
        path: the option's name, then keys or indexes inside its value: `("optimizers", 1, "learning_rate")`. Errors
            quote the line of a config that says it. Empty: the fault is of the component as a whole.
        text: what was expected and what was given, to be read after the name: "must be above 0, got -1".
    """

    path: tuple[str | int, ...]
    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.path, tuple) or not isinstance(self.text, str):
            raise TypeError(f"Fault(path, text): path must be a tuple such as ('length',), got {self.path!r}")

    def __str__(self) -> str:
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path).lstrip(".")
        return f"{where}: {self.text}" if where else self.text


class OptionError(ValueError):
    """A component cannot accept its options; `faults` holds everything that is wrong, not only the first fault."""

    def __init__(self, component: str, faults: list[Fault]) -> None:
        super().__init__(f"{component}: " + "; ".join(map(str, faults)))
        self.component = component
        self.faults = faults


@dataclasses.dataclass(frozen=True)
class Option:
    """An option that a user may set on a component, as `ev3x plugins show` prints it."""

    name: str
    type: str
    default: str
    help: str
    required: bool


@dataclasses.dataclass(frozen=True)
class Kit:
    """How the conformance kit tries a component; its class says `kit = ev3x.Kit(...)`, and subclasses inherit it.

    Tests with `ev3x.testing` and `ev3x plugins check` read it. `options` build the component, as a config writes them:
    whatever has no default, or a smaller size. `excuse` maps the names of checks that do not apply to the reason, in
    words. `given` returns what the function of the role takes besides, made when it is needed: `task` and `splits` for
    a proposer or an adapter, `metrics` for an assessor, `splits` for a task.
    """

    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    excuse: Mapping[str, str] = dataclasses.field(default_factory=dict)
    given: Callable[[], Mapping[str, Any]] = dict


@dataclasses.dataclass(frozen=True)
class Component(abc.ABC):  # noqa: B024, its roles have the abstract methods
    """Base of proposers, assessors, adapters, budgets, tasks and observers.

    Subclasses are frozen dataclasses. Their fields are options, which the same code checks whether a component is built
    in Python or from a config; their methods are pure and store nothing on `self`. `kit` says how tests try it.
    """

    role: ClassVar[str] = ""
    kit: ClassVar[Kit] = Kit()

    def __post_init__(self) -> None:
        cls: Any = type(self)
        faults = [*unfit(cls)]
        for field in dataclasses.fields(self) if not faults else ():
            value, wrong = _checked(cls, field.name, getattr(self, field.name))
            faults += wrong
            object.__setattr__(self, field.name, value)
        if not faults:
            faults = self.check()
            if not isinstance(faults, list | tuple) or not all(isinstance(fault, Fault) for fault in faults):
                text = f"{cls.__name__}.check must return a list of ev3x.component.Fault, [] for none, got {faults!r}"
                raise TypeError(text)
        if faults:
            raise OptionError(cls.__name__, [*faults])

    def check(self) -> list[Fault]:
        """What is wrong between options that are each valid alone: a `Fault` for each; none by default.

        It is called when the component is built, in Python or from a config, once every option is of its type. Return
        all faults at once; a fault that is raised instead has no line in the config.
        """
        return []

    @classmethod
    def build(cls, options: Mapping[str, object]) -> typing.Self:
        """The component with these options, or an `OptionError` that lists every unknown, missing or bad one."""
        kind: Any = cls
        if faults := [*unfit(kind)]:
            raise OptionError(cls.__name__, faults)
        fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
        faults = [Fault((name,), unknown("option", name, fields)) for name in options if name not in fields]
        faults += [
            Fault((o.name,), f"is required ({o.help})") for o in cls.options() if o.required and o.name not in options
        ]
        for name in fields.keys() & options.keys():
            faults += _checked(kind, name, options[name])[1]
        if faults:
            raise OptionError(cls.__name__, faults)
        return cls(**options)

    def to_config(self) -> dict[str, Any]:
        """The options as a config writes them, defaults included; options that are None are left out."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        return {name: to_config(value) for name, value in values.items() if value is not None}

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """The options of this component, in order."""
        return tuple(_option(cls, field) for field in dataclasses.fields(cls) if field.init)


def json_schema(cls: type[Component]) -> dict[str, Any]:
    """The JSON schema (2020-12) of a component's options, each with its help and its default."""
    properties: dict[str, Any] = {}
    for field, option in zip((f for f in dataclasses.fields(cls) if f.init), cls.options(), strict=True):
        default = None
        if field.default is not dataclasses.MISSING:
            default = to_config(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            default = to_config(field.default_factory())
        properties[field.name] = _schema(cls, field.name) | {"description": option.help}
        if default is not None:
            properties[field.name]["default"] = default
    required = [o.name for o in cls.options() if o.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def unknown(kind: str, name: object, known: typing.Iterable[str]) -> str:
    """The message for an unknown name; suggests the nearest known name if one is near."""
    choices = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(choices) or 'none'}"
    return f"unknown {kind} {name!r}; {hint}"


def to_config(value: Any) -> Any:
    """An option's value as a config writes it: plain numbers, strings, lists and tables."""
    if hasattr(value, "to_config"):
        return value.to_config()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_config(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: to_config(v) for name, v in value.items()}
    return [to_config(v) for v in value] if isinstance(value, tuple | list) else value


def _fault(field: str, detail: Any) -> Fault:
    inner = tuple(p for p in detail["loc"] if isinstance(p, int) or str(p).isidentifier())
    text = (
        detail["msg"]
        .removeprefix("Value error, ")
        .replace("Input should be", "must be")
        .replace("a valid tuple", "a list")
    )
    return Fault((field, *inner), text if detail["type"] == "value_error" else f"{text}, got {short(detail['input'])}")


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _checked(cls: type, name: str, value: Any) -> tuple[Any, list[Fault]]:
    """The value that the option of this name takes, and what is wrong with it."""
    try:
        value = _validator(cls, name).validate_python(plain(value))
    except pydantic.ValidationError as error:
        return value, [_fault(name, detail) for detail in error.errors()]
    except TypeError as error:  # pydantic lets those of values' own checks pass
        return value, [Fault((name,), f"{error}, got {short(value)}")]
    try:
        hash(value)
    except TypeError:
        text = f"must be a value that has a hash, as the key of compiled programs, got {short(value)}"
        return value, [Fault((name,), text)]
    return value, []


@functools.cache
def unfit(cls: type) -> tuple[Fault, ...]:
    """The options whose types no option may have, each with what to do; docs/plugin-api.md has the table."""
    try:
        _hints(cls)
    except NameError as error:
        named: list[tuple[str, ...]] = [(f.name,) for f in dataclasses.fields(cls) if str(error.name) in str(f.type)]
        text = f"its type cannot be read: {error}; import what it names outside of TYPE_CHECKING"
        return tuple(Fault(path, text) for path in named or [()])
    pydantic.TypeAdapter(bool)  # reads all entry points: a stranger's broken ones are no fault of these types
    faults = []
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for field in fields.values():
        try:
            _validator(cls, field.name)
        except (TypeError, pydantic.errors.PydanticUserError) as error:
            faults.append(Fault((field.name,), str(error).partition("\n")[0]))
        except Exception as error:  # whatever pydantic raises of a type that it cannot take
            faults.append(Fault((field.name,), f"has a type that cannot be checked: {type(error).__name__}: {error}"))
    taken = {"use", *(name for name in vars(Component) if name[0] != "_")}
    text = "has a name that configs or all components use for something else: choose another"
    odd = [Fault((name,), text) for name in fields if name in taken]
    text = "is an InitVar, which has no value once the component is built: make it a field"
    given = cls.__dataclass_fields__.items()  # type: ignore[attr-defined]
    odd += [Fault((name,), text) for name, f in given if name not in fields and "InitVar" in str(f.type)]
    # Once is enough: messages hold all faults.
    return (*odd, *faults[:-1], *(Fault(fault.path, f"{fault.text}; {ALLOWED}") for fault in faults[-1:]))


@functools.cache
def _validator(cls: type, name: str) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(_strict(_hints(cls)[name]))


def _in_float32(value: float) -> float:
    if value != math.inf and (fault := misfit32(value)):  # which is here only where it is allowed
        raise ValueError(f"must be {fault}, got {short(value)}")
    return value


def _in_int32(value: int) -> int:
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"must be an integer from -2^31 to 2^31 - 1 (int32), got {_short(value)}")
    return value


def _short(value: int) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"one of {len(text)} digits"


def _strict(hint: Any, inside: tuple[type, ...] = ()) -> Any:
    """The type of an option as pydantic checks it: nothing is converted, numbers are finite.

    TypeError says why no option may have this type. `inside` are the dataclasses around it.
    """
    hint = getattr(hint, "__value__", hint)  # of `type X = ...`
    notes: tuple[Any, ...] = ()
    if typing.get_origin(hint) is Annotated:
        hint, *rest = typing.get_args(hint)
        notes = tuple(rest)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    made: Any = Annotated
    if hint in _SCALARS:
        bounded = hint is not float or any(isinstance(n, pydantic.AllowInfNan) for n in notes)
        finite = () if bounded else (pydantic.AllowInfNan(False),)
        last = (pydantic.AfterValidator(_in_float32),) if hint is float else ()
        if hint is int and not any(isinstance(n, Lt | Le) for n in notes):
            last = (pydantic.AfterValidator(_in_int32),)
        return made[(hint, pydantic.Strict(), *finite, *notes, *last)]
    if origin is tuple and args:
        inner: Any = tuple
        inner = inner[tuple(a if a is Ellipsis else _strict(a, inside) for a in args)]
        return made[(inner, pydantic.Strict(), *notes)]
    if origin in (typing.Union, types.UnionType):
        hint = typing.Union[tuple(_strict(a, inside) for a in args)]  # noqa: UP007, made of a tuple
    elif not (hint in (None, type(None)) or origin is typing.Literal or _writes_itself(hint) or hint in inside):
        _check_frozen(hint, inside)
    return made[(hint, *notes)] if notes else hint


def _writes_itself(hint: Any) -> bool:
    """Whether this is the type of values such as `Loss`, which know how a config writes them."""
    return isinstance(hint, type) and hasattr(hint, "__get_pydantic_core_schema__") and hasattr(hint, "to_config")


def _check_frozen(hint: Any, inside: tuple[type, ...]) -> None:
    """Raises TypeError unless this is a frozen dataclass whose fields are functions or what options may be."""
    if not (isinstance(hint, type) and dataclasses.is_dataclass(hint) and hint.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        name = inspect.formatannotation(hint).replace("jax.jaxlib._jax.", "jax.")
        raise TypeError(f"has the type {name}, which no option may have: {_advice(hint)}")
    try:
        hints = _hints(hint)
        for field in dataclasses.fields(hint):
            if (typing.get_origin(hints[field.name]) or hints[field.name]) is not Callable:
                _strict(hints[field.name], (*inside, hint))
    except (TypeError, NameError) as error:
        raise TypeError(f"has the type {hint.__name__}, of which a field {error}") from error


def _advice(hint: Any) -> str:
    kind = typing.get_origin(hint) or hint
    if kind is Callable:
        return (
            "make it a method of a subclass, or name the choices in a Literal; where no config is needed, hold it in a "
            "frozen dataclass"
        )
    if kind is tuple:
        return "say what it holds, as tuple[int, ...]"
    if not isinstance(kind, type) or kind in (Any, object):
        return "say which type it is"
    if issubclass(kind, Mapping):
        return "say tuple[tuple[str, float], ...], or give each entry an option of its own"
    if issubclass(kind, Iterable) and kind.__module__ in ("builtins", "collections.abc", "collections"):
        return "say tuple[...], which has a hash"
    if kind.__module__.partition(".")[0] in ("jax", "jaxlib", "numpy"):
        return "say tuple[float, ...], and make the array in a method"
    return "give the numbers and names that it is made from as options, and make it in a method"


def _schema(cls: type, name: str) -> dict[str, Any]:
    """The JSON schema of one option; it allows any value where pydantic cannot make a schema."""
    try:
        schema = _validator(cls, name).json_schema()
    except pydantic.errors.PydanticInvalidForJsonSchema:
        return {}
    if "$defs" in schema:  # the schema of an option must not refer to another one
        schema = _inlined(schema, schema.pop("$defs"))
    return schema


def _inlined(schema: Any, known: Mapping[str, Any]) -> Any:
    """The schema with every reference replaced by its target."""
    if isinstance(schema, Mapping):
        if ref := schema.get("$ref"):
            return _inlined(known[str(ref).rpartition("/")[2]], known)
        return {key: _inlined(value, known) for key, value in schema.items()}
    return [_inlined(value, known) for value in schema] if isinstance(schema, list) else schema


def _option(cls: type, field: dataclasses.Field[Any]) -> Option:
    hint = _hints(cls)[field.name]
    notes = hint.__metadata__ if typing.get_origin(hint) is Annotated else ()
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    if field.default_factory is not dataclasses.MISSING:
        default = _said(field.default_factory())
    else:
        default = "" if required else _said(field.default)
    text = next((n.documentation for n in notes if isinstance(n, Doc)), "")
    return Option(field.name, _type_name(hint), default, text, required)


def _said(default: Any) -> str:
    """The default in a table of options; values such as an optimizer have a form that people can read."""
    return str(default) if hasattr(default, "to_config") else repr(default)


def _type_name(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        limits = [f">= {n.ge}" for n in hint.__metadata__ if isinstance(n, Ge)]
        limits += [f"> {n.gt}" for n in hint.__metadata__ if isinstance(n, Gt)]
        return " ".join([_type_name(hint.__origin__), *limits])
    if origin is typing.Literal:
        return " | ".join(repr(a) for a in typing.get_args(hint))
    if origin is tuple:
        inner = [_type_name(a) for a in typing.get_args(hint) if a is not Ellipsis]
        return f"list of {inner[0]}" if Ellipsis in typing.get_args(hint) else f"[{', '.join(inner)}]"
    if origin is not None:
        return " | ".join(_type_name(a) for a in typing.get_args(hint))
    return "none" if hint is type(None) else getattr(hint, "__name__", str(hint))
