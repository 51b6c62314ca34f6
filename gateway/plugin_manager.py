"""Build, load, check and list the plugins. One manager per application; nothing at module level."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from gateway import hookspecs
from gateway.backend import Backend

log = logging.getLogger(__name__)
GROUP = "jobgate"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plugin that came in: its name, where from (`jobgate 0.1.0: gateway_plugins.local`), its hooks."""

    name: str
    source: str
    hooks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that did not come in, and why."""

    name: str
    source: str
    reason: str


class Plugins:
    """The plugins of one application. `manager.hook` calls them; `loaded` and `broken` list them."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager("jobgate")
        self.manager.add_hookspecs(hookspecs)
        self.loaded: list[Loaded] = []
        self.broken: list[Broken] = []
        self.backends: dict[str, type[Backend]] = {}
        self.options: dict[str, type] = {}  # of the tables [dialects.*] in the configuration

    @property
    def hook(self) -> Any:
        return self.manager.hook

    def add(self, plugin: object, name: str, source: str) -> None:
        """Take a plugin in. Whatever is wrong with it is kept in `broken`, and the others go on."""
        try:
            self._register(plugin, name, source)
        except Exception as problem:
            self._refuse(name, source, problem)

    def add_entry_points(self, points: Iterable[EntryPoint]) -> None:
        """Each on its own: pluggy's own loader stops at the first that fails to import (pluggy 1.6)."""
        for point in sorted(points, key=lambda point: point.name):
            source = f"{point.dist.name} {point.dist.version}: {point.value}" if point.dist else point.value
            try:
                plugin = point.load()
            except BaseException as problem:  # a plugin may call sys.exit() at import
                if isinstance(problem, KeyboardInterrupt):
                    raise
                self._refuse(point.name, source, problem)
            else:
                self.add(plugin, point.name, source)

    def _register(self, plugin: object, name: str, source: str) -> None:
        self.manager.register(plugin, name)
        try:
            # pluggy takes a misspelt hook without a word until it is asked (1.6)
            self._check_hooks(plugin)
            found, options = self._backends_of(plugin), self._options_of(plugin)
        except Exception:
            self.manager.unregister(plugin)
            raise
        self.backends.update(found)
        self.options.update(options)
        hooks = tuple(sorted(caller.name for caller in self.manager.get_hookcallers(plugin) or ()))
        self.loaded.append(Loaded(name, source, hooks))

    def _check_hooks(self, plugin: object) -> None:
        known = {name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "jobgate_spec")}
        for caller in self.manager.get_hookcallers(plugin) or ():
            if caller.name not in known:
                raise ValueError(f"there is no hook {caller.name!r}; hooks are: {', '.join(sorted(known))}")

    def _backends_of(self, plugin: object) -> dict[str, type[Backend]]:
        register = getattr(plugin, "register_backends", None)
        found = {backend.name: backend for backend in (register() if register else ())}
        for name in found.keys() & self.backends.keys():
            raise ValueError(f"backend {name!r} is registered already, by {self.backends[name].__module__}")
        return found

    def _options_of(self, plugin: object) -> dict[str, type]:
        register = getattr(plugin, "register_options", None)
        found = dict(register() if register else {})
        for name in found.keys() & self.options.keys():
            raise ValueError(f"options {name!r} are registered already, by {self.options[name].__module__}")
        return found

    def _refuse(self, name: str, source: str, problem: BaseException) -> None:
        reason = f"{type(problem).__name__}: {problem}"
        self.broken.append(Broken(name, source, reason))
        log.error("plugin %s (%s) was left out: %s", name, source, reason)


def load_plugins(*more: tuple[str, object]) -> Plugins:
    """All installed plugins (entry points of group `jobgate`), and `more` as pairs of name and plugin."""
    plugins = Plugins()
    plugins.add_entry_points(entry_points(group=GROUP))
    for name, plugin in more:
        plugins.add(plugin, name, "given")
    return plugins
