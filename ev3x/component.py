"""The base of every component: a frozen dataclass whose fields are its options."""

from __future__ import annotations

import abc
import dataclasses
import difflib
import functools
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import pydantic
from annotated_types import Ge, Gt
from typing_extensions import Doc

Count = Annotated[int, pydantic.Strict(), Ge(1)]
Natural = Annotated[int, pydantic.Strict(), Ge(0)]
Real = Annotated[float, pydantic.Strict()]
Positive = Annotated[float, pydantic.Strict(), Gt(0)]


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
        faults: list[Fault] = []
        cls: Any = type(self)
        for field in dataclasses.fields(self):
            try:
                value = _validator(cls, field.name).validate_python(getattr(self, field.name))
            except pydantic.ValidationError as error:
                faults += [_fault(field.name, detail) for detail in error.errors()]
            else:
                object.__setattr__(self, field.name, value)
        faults = faults or self.check()
        if faults:
            raise OptionError(cls.__name__, faults)

    def check(self) -> list[Fault]:
        """What is wrong between options that are each valid alone: a `Fault` for each; none by default.

        It is called when the component is built, in Python or from a config, once every option is of its type. Return
        all faults at once; a fault that is raised instead has no line in the config.
        """
        return []

    @classmethod
    def build(cls, options: Mapping[str, object]) -> typing.Self:
        """The component with these options, or an `OptionError` that lists every unknown, missing or bad one."""
        fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
        faults = [Fault((name,), unknown("option", name, fields)) for name in options if name not in fields]
        faults += [
            Fault((o.name,), f"is required ({o.help})") for o in cls.options() if o.required and o.name not in options
        ]
        kind: Any = cls
        for name in fields.keys() & options.keys():
            try:
                _validator(kind, name).validate_python(options[name])
            except pydantic.ValidationError as error:
                faults += [_fault(name, detail) for detail in error.errors()]
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


def unknown(kind: str, name: str, known: typing.Iterable[str]) -> str:
    """The message for an unknown name; suggests the nearest known name if one is near."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1)
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
    text = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return Fault((field, *inner), text if detail["type"] == "value_error" else f"{text}, got {detail['input']!r}")


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


@functools.cache
def _validator(cls: type, name: str) -> pydantic.TypeAdapter[Any]:
    hint = _hints(cls)[name]
    plain = hint.__origin__ if typing.get_origin(hint) is Annotated else hint
    if isinstance(plain, type) and (dataclasses.is_dataclass(plain) or issubclass(plain, pydantic.BaseModel)):
        return pydantic.TypeAdapter(hint)
    return pydantic.TypeAdapter(hint, config=pydantic.ConfigDict(arbitrary_types_allowed=True))


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
        default = repr(field.default_factory())
    else:
        default = "" if required else repr(field.default)
    text = next((n.documentation for n in notes if isinstance(n, Doc)), "")
    return Option(field.name, _type_name(hint), default, text, required)


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
