"""Resolve a recipe: bind roles, tables and parameters, and find every problem at once."""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from contracts import methods
from contracts.errors import ConfigError, nearest
from contracts.packages import missing, needed_by
from contracts.params import files_of, names_of, parse
from curation.step import Step, Table, as_step
from flows.recipe import bootstrap
from flows.recipe.expressions import Expression, read_expression
from flows.recipe.plan import POOL_COLUMNS, Method, Node, Plan, needs
from flows.recipe.sections import (
    AnnotateSection,
    EmbedSection,
    FileSection,
    FitSection,
    Problems,
    Recipe,
    Rule,
    SelectSection,
)
from flows.recipe.types import check_types
from storage import files

KINDS = {"annotate": ("rowwise", "groupwise", "poolwise"), "fit": ("fit",), "select": ("selector",)}
# The keys of a method's section that are not the method's own.
FIXED: Mapping[str, Any] = {
    "annotate": AnnotateSection, "fit": FitSection, "select": SelectSection,
}  # fmt: skip


def plan(
    recipe: Recipe,
    given: Mapping[str, Any] | None = None,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """Resolve a recipe.

    Args:
        recipe: as read.
        given: steps by name that a notebook brings.
        columns: of tables whose values were brought as a file before, so that the file, which may
            be gone or another by now, is not opened; None for a run to come, whose files are there.

    Raises:
        ConfigError: with every problem found.
    """
    return _Planner(recipe, given or {}, columns).plan()


class _Planner:
    def __init__(
        self,
        recipe: Recipe,
        given: Mapping[str, Any],
        brought: Mapping[str, Mapping[str, Any]] | None,
    ) -> None:
        self.recipe, self.given, self.brought = recipe, given, brought
        self.problems = Problems()
        self.problems.found += recipe.problems
        self.nodes: dict[str, Node] = {}
        self.columns: dict[str, str] = {}
        self.streams: Counter[str] = Counter()
        self.bindings: list[tuple[str, str, str, str]] = []
        self.waiting: list[tuple[str, str, str | None]] = []
        self.begun: set[str] = set()
        self.broken: set[str] = set()

    def plan(self) -> Plan:
        recipe = self.recipe
        for alias, section in recipe.embed.items():
            self._add("embed", alias, section)
        for alias, section in recipe.annotate.items():
            self._add("annotate", alias, section)
        for alias, section in recipe.fit.items():
            self._add("fit", alias, section)
        rules = []
        for rule in recipe.select:
            node = None
            if rule.where is not None:
                self._need(rule.where.paths, f"{rule.key}.where")
            else:
                node = self._selector(rule)
            rules.append((rule, node))
        holdout = recipe.holdout
        if holdout is not None:
            if holdout.where is not None:
                self._need(Expression(holdout.where).paths, "holdout.where")
            if holdout.by_group is not None:
                self._need([holdout.by_group], "holdout.by_group")
            if holdout.near is not None:
                self._need([f"{holdout.near}.cluster"], "holdout.near")
        if recipe.export is not None:
            self._need(recipe.export.columns, "export.columns")
            with self.problems.at("export.text"):
                self._need(Expression(recipe.export.text).paths, "export.text")
            self._need([f"{name}.spans" for name in recipe.export.redacted_by], "export.redact")
        if recipe.compare is not None and recipe.compare.stratify_by is not None:
            with self.problems.at("compare.stratify_by"):
                strata = Expression(recipe.compare.stratify_by).paths
                self._need(strata, "compare.stratify_by")
        if recipe.guard is not None and recipe.guard.groups is not None:
            for text in recipe.guard.groups.by:
                with self.problems.at("guard.groups.by"):
                    self._need(Expression(text).paths, "guard.groups.by")
            rules_named = [rule.name for rule in recipe.select]
            for name in recipe.guard.groups.intended:
                if name not in rules_named:
                    hint = nearest(name, rules_named)
                    self.problems.add("guard.groups.intended", f"no rule is {name!r}.{hint}")
        if recipe.certificate is not None:
            self._need([recipe.certificate.vector], "certificate.vector")
        if recipe.pretrain is not None:
            for name, text in recipe.pretrain.bound().items():
                key = f"pretrain.columns.{name}" if name != text else "pretrain"
                with self.problems.at(key):
                    self._need(Expression(text).paths, key)
            for key, text in recipe.pretrain.orders().items():
                with self.problems.at(f"pretrain.{key}"):
                    self._need(Expression(text).paths, f"pretrain.{key}")
            for key, reference in recipe.pretrain.fits().items():
                self._need_fit(reference, key)
        for i, section in enumerate(recipe.evaluate):
            # The labels of other protocols are the pool's own columns or notes, too.
            for key in ("cluster", "label", "groups", "choices"):
                if isinstance(section.get(key), str):
                    with self.problems.at(f"evaluate[{i}].{key}"):
                        self._need(Expression(section[key]).paths, f"evaluate[{i}].{key}")
        self._default_vectors()
        self._references(rules)
        self._check_vectors()
        self._check_holdout_near()
        self._check_redaction()
        order = self._ordered()
        settled = tuple((rule, node and self.nodes[node.table]) for rule, node in rules)
        tables = {t: self.nodes[t] for t in order if self.nodes[t].kind != "selector"}
        planned = Plan(
            recipe=recipe,
            nodes=tables,
            columns=self.columns,
            rules=settled,
            bindings=tuple(self.bindings),
        )
        with self.problems.at():
            check_types(planned, {})
        self.problems.raise_any()
        return planned

    def _add(self, kind: str, alias: str, section: Mapping[str, Any]) -> None:
        table = f"{kind}.{alias}"
        if table in self.nodes or table in self.broken or table in self.begun:
            return
        if alias in POOL_COLUMNS:
            self.problems.add(table, f"{alias!r} is a column of every pool: choose another alias.")
            return
        before = len(self.problems.found)
        # Sections that need each other come back here; `_ordered` reports them.
        self.begun.add(table)
        with self.problems.at(table):
            if "file" in section:
                node = self._file(table, alias, section)
            elif kind == "embed":
                node = self._encoder(table, alias, section)
            elif kind == "annotate" and section.get("step", alias) == bootstrap.PREDICT:
                node = self._checkpoint(table, alias, section)
            else:
                node = self._method(kind, table, alias, section)
            self.nodes[table] = node
            if kind != "fit":
                self._claim(node)
        if len(self.problems.found) > before:
            self.broken.add(table)

    def _claim(self, node: Node) -> None:
        for column in node.writes:
            path = f"{node.alias}.{column}"
            other = self.columns.setdefault(path, node.table)
            if other != node.table:
                raise ConfigError(f"{path} is written by {other} too: give one another alias.")

    def _file(self, table: str, alias: str, section: Mapping[str, Any]) -> Node:
        legal = names_of(FileSection)
        unknown = [k for k in section if k not in legal]
        if unknown:
            raise ConfigError(f"unknown key {unknown[0]!r}.{nearest(unknown[0], legal)}")
        path = (self.recipe.recipe_dir / str(section["file"])).resolve()
        key = str(section.get("key", "uid"))
        if key not in ("uid", "source_id", "row") and not key.startswith("meta."):
            raise ConfigError(
                f"key is uid, source_id, row or meta.<column> (got {key!r}): is it meta.{key}?"
            )
        ids = (self.recipe.recipe_dir / str(section["ids"])).resolve() if "ids" in section else None
        if self.brought is not None and table in self.brought:
            return Node(
                table, alias, "file", None, self.brought[table], file=path, key=key, ids=ids
            )
        for named, wanted in (("file", path), ("ids", ids)):
            if wanted is not None and not wanted.exists():
                raise ConfigError(f"{named}: there is no {wanted}.")
        held = files.columns(path)
        column = key.removeprefix("meta.")
        if key != "row" and column not in held and "ids" not in section:
            raise ConfigError(
                f"key: {path} has no column {column!r}, only {list(held)}.{_keys_in(held)}"
            )
        writes = {c: t for c, t in held.items() if c not in ("uid", "source_id", "row", column)}
        return Node(
            table=table,
            alias=alias,
            kind="file",
            method=None,
            writes=writes,
            file=path,
            key=key,
            ids=ids,
        )

    def _encoder(self, table: str, alias: str, section: Mapping[str, Any]) -> Node:
        name = str(section.get("encoder", alias))
        method = Method("embeddings", name, self.recipe.recipe_dir)
        if name == bootstrap.METHOD:
            return self._checkpoint(table, alias, section)
        encoder = method.load()
        reads: Mapping[str, str] = encoder.reads
        roles, rest = {}, {}
        for key, value in section.items():
            if key in reads:
                with self.problems.at(f"{table}.{key}"):
                    roles[key] = read_expression(value)
            elif key not in names_of(EmbedSection):
                rest[key] = value
        for role, default in reads.items():
            bound = "recipe" if role in roles else "default"
            roles.setdefault(role, Expression(default))
            self.bindings.append((table, role, roles[role].text, bound))
        parameters = parse(encoder, rest, where=table)
        self._check_packages(table, encoder, parameters)
        columns = ("image", "text") if set(reads) >= {"image", "text"} else ("vector",)
        for role, expression in roles.items():
            self._need(expression.paths, f"{table}.{role}")
        return Node(
            table=table,
            alias=alias,
            kind="embed",
            method=method,
            writes=dict.fromkeys(columns),
            parameters=parameters,
            roles=roles,
            gate=self._gate(section, table),
        )

    def _checkpoint(self, table: str, alias: str, section: Mapping[str, Any]) -> Node:
        """Plan an encoder of our own, which `bootstrap.resolved` has found."""
        if "reads" not in section:
            self.broken.add(table)
            known = any(p.key.startswith(table) for p in self.problems.found)
            raise ConfigError([] if known else "is found in a store, by bootstrap.resolved.")
        roles = {role: read_expression(section.get(role, role)) for role in section["reads"]}
        for role, expression in roles.items():
            bound = "recipe" if role in section else "default"
            self.bindings.append((table, role, expression.text, bound))
            self._need(expression.paths, f"{table}.{role}")
        predicts = "writes" in section
        named = bootstrap.named(section) if predicts else section
        code_dir = bootstrap.code_dir(named, self.recipe.recipe_dir)
        columns = tuple(roles) if len(roles) > 1 else ("vector",)
        parameters: dict[str, Any] = {"allow": tuple(section.get("allow", ()))}
        parameters |= {"predict": True} if predicts else {"tower": section.get("tower")}
        return Node(
            table=table,
            alias=alias,
            kind="embed",
            method=Method("embeddings", bootstrap.METHOD, code_dir),
            writes=dict.fromkeys(section["writes"] if predicts else columns),
            parameters=parameters,
            roles=roles,
            gate=self._gate(section, table),
            file=Path(section["path"]),
        )

    def _method(self, kind: str, table: str, alias: str, section: Mapping[str, Any]) -> Node:
        name = str(section.get("step" if kind != "select" else "by", alias))
        method = Method(f"curation.{kind}", name, self.recipe.recipe_dir, self.given.get(name))
        step = as_step(method.load(), name)
        if step.kind not in KINDS[kind]:
            raise ConfigError(f"{name} is no {' or '.join(KINDS[kind])} method.")
        fixed = {k: v for k, v in section.items() if k in names_of(FIXED[kind]) and k != "only"}
        with self.problems.at():
            parse(FIXED[kind], fixed, where=table)
        parameter_names = names_of(step.function)
        own = {k: v for k, v in section.items() if k in parameter_names}
        for key, may_be_folder in files_of(step.function).items():
            if isinstance(own.get(key), str):
                path = (self.recipe.recipe_dir / own[key]).resolve()
                own[key] = str(path)
                there = path.is_file() or (may_be_folder and path.is_dir())
                if self.brought is None and not there:
                    what = "file or folder" if may_be_folder else "file"
                    self.problems.add(f"{table}.{key}", f"there is no {what} {path}.")
        if "stream" in parameter_names and "stream" not in own:
            self.streams[step.name] += 1
            use = self.streams[step.name]
            own["stream"] = step.name if use == 1 else f"{step.name}#{use}"
        of_pool = section.get("of_pool") is True and "budget_ratio" in own
        bound: Step | None = None
        try:
            bound = step = step.bind(**own)
        except ConfigError as error:
            for p in error.problems:
                self.problems.add(f"{table}.{p.key.partition('.')[2]}", p.message)
        legal = [*names_of(FIXED[kind]), *step.reads, *step.tables, *step.slots, *parameter_names]
        for key in section:
            if key not in legal:
                self.problems.add(f"{table}.{key}", f"unknown key.{nearest(key, legal)}")
        slots = {}
        for slot in step.slots:
            with self.problems.at(f"{table}.{slot}"):
                slots[slot] = self._slot(section, slot, table)
        roles = self._roles(step, section, table)
        tables = self._tables(step, section, table)
        gate = self._gate(section, table)
        if bound is None:
            raise ConfigError([])
        self._check_packages(table, bound, bound.bound)
        wrong_already = any(p.key.startswith(f"{table}.") for p in self.problems.found)
        if bound.check is not None and self.brought is None and not wrong_already:
            awaited = {role for waits, role, _ in self.waiting if waits == table}
            wrong = bound.check(bound.bound, {*roles, *tables, *awaited})
            if wrong:
                self.problems.add(table, wrong)
        node = Node(
            table=table,
            alias=alias,
            kind=step.kind,
            method=method,
            writes=step.writes,
            parameters=step.bound,
            roles=roles,
            tables=tables,
            slots=slots,
            gate=gate,
            sample=section.get("sample"),
            of_pool=of_pool,
        )
        for role, expression in roles.items():
            self._need(expression.paths, f"{table}.{role}")
        for reference in node.tables.values():
            if reference.startswith("fit."):
                self._need_fit(reference, table)
        return node

    def _selector(self, rule: Rule) -> Node | None:
        with self.problems.at(rule.key):
            node = self._method("select", rule.key, rule.name, {**rule.section, "by": rule.by})
            self.nodes[rule.key] = node
            return node
        return None

    def _roles(self, step: Step, section: Mapping[str, Any], table: str) -> dict[str, Expression]:
        roles: dict[str, Expression] = {}
        # An optional role's default gives way to another optional role: the best known distance
        # to a neighbour is a cosine, unless the recipe binds a similarity.
        chosen = any(spec.optional and role in section for role, spec in step.reads.items())
        for role, spec in step.reads.items():
            if role in section:
                with self.problems.at(f"{table}.{role}"):
                    roles[role] = read_expression(section[role])
                if role not in roles:
                    continue
                bound = "recipe"
            elif spec.default is not None and not (spec.optional and chosen):
                roles[role] = Expression(spec.default)
                bound = "default"
            elif role in POOL_COLUMNS and not spec.optional:
                roles[role] = Expression(role)
                bound = "namesake"
            elif not spec.optional:
                self.waiting.append((table, role, None))
                continue
            else:
                continue
            self.bindings.append((table, role, roles[role].text, bound))
        return roles

    def _tables(self, step: Step, section: Mapping[str, Any], table: str) -> dict[str, str]:
        bound: dict[str, str] = {}
        for name, spec in step.tables.items():
            reference = section.get(name, spec.default)
            if reference is None:
                if not spec.optional:
                    self.problems.add(f"{table}.{name}", f"is required: {_reference_help(spec)}")
                continue
            if isinstance(reference, str) and (self.recipe.recipe_dir / reference).is_file():
                reference = f"file:{reference}"
            prefix = str(reference).partition(":")[0].partition(".")[0]
            if not isinstance(reference, str) or prefix not in ("fit", "pool", "file"):
                self.problems.add(f"{table}.{name}", f"{_reference_help(spec)} (got {reference!r})")
                continue
            bound[name] = reference
        return bound

    def _slot(
        self, section: Mapping[str, Any], slot: str, table: str
    ) -> tuple[Method, Mapping[str, Any]]:
        value = section.get(slot)
        given = {"name": value} if isinstance(value, str) else dict(value or {})
        if "name" not in given:
            raise ConfigError(f"{slot} is required: the name of a file of embeddings.")
        method = Method("embeddings", given.pop("name"), self.recipe.recipe_dir)
        scorer = method.load()
        parameters = parse(scorer, given, where=f"{table}.{slot}")
        self._check_packages(f"{table}.{slot}", scorer, parameters)
        return method, parameters

    def _check_packages(self, where: str, method: Any, parameters: Mapping[str, Any]) -> None:
        """Say what to install before a run; a run that was made is read without it."""
        if self.brought is None:
            for sentence in missing(needed_by(method, parameters)):
                self.problems.add(where, sentence)

    def _gate(self, section: Mapping[str, Any], table: str) -> Expression | None:
        with self.problems.at(f"{table}.only"):
            if "only" in section:
                gate = read_expression(section["only"])
                self._need(gate.paths, f"{table}.only")
                return gate
        return None

    def _need(self, paths: Iterable[str], where: str) -> None:
        """Add the sections that columns ask for, with their defaults."""
        for path in paths:
            alias, dot, _ = path.partition(".")
            if not dot or alias == "meta":
                if not dot and path not in POOL_COLUMNS:
                    hint = nearest(path, [*POOL_COLUMNS, *_columns_called(path)])
                    own = f"A column {path} of the source is meta.{path}."
                    self.problems.add(where, f"there is no column {path!r}.{hint} {own}")
                continue
            explicit = [s for s in ("embed", "annotate") if alias in getattr(self.recipe, s)]
            if explicit:
                for section in explicit:
                    self._add(section, alias, getattr(self.recipe, section)[alias])
            elif alias in methods.names("curation.annotate") or alias in self.given:
                self._add("annotate", alias, {})
            elif f"annotate.{alias}" not in self.broken:
                known = {*self.recipe.embed, *self.recipe.annotate}
                known |= {*methods.names("curation.annotate")}
                hint = methods.nearest_or_given(alias, known)
                self.problems.add(where, f"nothing is called {alias!r} (in {path!r}).{hint}")
                self.broken.add(f"annotate.{alias}")

    def _need_fit(self, reference: str, where: str) -> None:
        alias = reference.removeprefix("fit.")
        if alias in self.recipe.fit or alias in methods.names("curation.fit"):
            self._add("fit", alias, self.recipe.fit.get(alias, {}))
        else:
            known = [*self.recipe.fit, *methods.names("curation.fit")]
            self.problems.add(where, f"there is no {reference!r}.{nearest(alias, known)}")

    def _default_vectors(self) -> None:
        """Bind `vector`, `image_vector` and `text_vector` to the recipe's only ones."""
        embeds = [n for n in self.nodes.values() if n.table.startswith("embed.")]
        single = [f"{n.alias}.vector" for n in embeds if "vector" in n.writes]
        towers = [n.alias for n in embeds if {"image", "text"} <= set(n.writes)]
        for table, role, _ in self.waiting:
            node = self.nodes.get(table)
            if node is None:
                continue
            by_role = {
                "vector": single or [f"{a}.image" for a in towers],
                "image_vector": [f"{a}.image" for a in towers],
                "text_vector": [f"{a}.text" for a in towers],
            }
            choices = by_role.get(role, [])
            broken = any(t.startswith("embed.") for t in self.broken)
            if role in by_role and len(choices) != 1 and broken:
                continue  # Its vectors may be those of the broken section.
            if len(choices) != 1:
                found = f"there are {', '.join(choices)}" if choices else "nothing has that name"
                self.problems.add(f"{table}.{role}", f"bind the role to a column: {found}.")
                continue
            self.bindings.append((table, role, choices[0], "default"))
            bound = replace(node, roles={**node.roles, role: Expression(choices[0])})
            self.nodes[table] = bound

    def _references(self, rules: Sequence[tuple[Rule, Node | None]]) -> None:
        """Check that every column named is one that its table writes."""
        named: list[tuple[str, str]] = []
        for node in self.nodes.values():
            bound = {**node.roles, **({} if node.gate is None else {"only": node.gate})}
            named += [(f"{node.table}.{role}", p) for role, e in bound.items() for p in e.paths]
        for rule, _ in rules:
            named += [(f"{rule.key}.where", p) for p in (rule.where.paths if rule.where else ())]
        holdout, export = self.recipe.holdout, self.recipe.export
        if holdout is not None and holdout.where is not None:
            named += [("holdout.where", p) for p in Expression(holdout.where).paths]
        if holdout is not None and holdout.by_group is not None:
            named.append(("holdout.by_group", holdout.by_group))
        named += [("export.columns", p) for p in (export.columns if export else ())]
        if export is not None:
            named += [("export.text", p) for p in Expression(export.text).paths]
        if self.recipe.compare is not None and self.recipe.compare.stratify_by is not None:
            strata = Expression(self.recipe.compare.stratify_by).paths
            named += [("compare.stratify_by", p) for p in strata]
        if self.recipe.guard is not None and self.recipe.guard.groups is not None:
            with suppress(ConfigError):  # It was said where they were needed.
                groups = [p for e in self.recipe.guard.groups.by for p in Expression(e).paths]
                named += [("guard.groups.by", p) for p in groups]
        if self.recipe.certificate is not None:
            named.append(("certificate.vector", self.recipe.certificate.vector))
        for where, path in named:
            alias, dot, _ = path.partition(".")
            if not dot or alias == "meta" or path in self.columns:
                continue
            if {f"embed.{alias}", f"annotate.{alias}"} & self.broken:
                continue
            own = [p for p in self.columns if p.startswith(f"{alias}.")]
            self.problems.add(where, f"there is no column {path!r}.{nearest(path, own)}")

    def _check_vectors(self) -> None:
        """Refuse a method that would compare vectors of two encoders."""
        for node in self.nodes.values():
            fits = [self.nodes[t] for t in node.tables.values() if t in self.nodes]
            paths = [p for n in (node, *fits) for p in n.paths]
            embeds = {self.columns[p] for p in paths if self.columns.get(p, "")[:6] == "embed."}
            made = {
                (n.method, n.file, tuple(sorted(map(str, n.parameters.items()))))
                for n in (self.nodes[t] for t in embeds)
                if n.method is not None
            }
            if len(made) > 1:
                self.problems.add(
                    node.table,
                    f"compares vectors of different encoders: {', '.join(sorted(embeds))}.",
                )

    def _check_holdout_near(self) -> None:
        holdout = self.recipe.holdout
        if holdout is None or holdout.near is None or self.problems.found:
            return
        if f"{holdout.near}.cluster" not in self.columns:
            self.problems.add("holdout.near", f"{holdout.near} writes no `cluster`.")
            return
        seen, todo = set(), [self.columns[f"{holdout.near}.cluster"]]
        while todo:
            node = self.nodes[todo.pop()]
            if node.kind == "fit":
                self.problems.add(
                    "holdout.near",
                    f"{holdout.near} depends on {node.table}, which may not see held-out records.",
                )
                return
            seen.add(node.table)
            todo += [t for t in needs(node, self.columns, self.nodes) if t not in seen]

    def _check_redaction(self) -> None:
        """Refuse to redact by spans of another text, or where some are not looked for."""
        if self.recipe.export is None or self.problems.found:
            return
        for name in self.recipe.export.redacted_by:
            node = self.nodes.get(f"annotate.{name}")
            if node is None or node.method is None or node.method.name != name:
                found = f"{name} is not the method {name} here: give the section another name."
            elif node.roles["text"].text != self.recipe.export.text:
                read, leaves = node.roles["text"].text, self.recipe.export.text
                found = f"annotate.{name} reads {read}, and {leaves} is exported."
            elif node.gate is not None:
                found = f"annotate.{name} has a gate: what it does not read would stay as it is."
            else:
                continue
            self.problems.add("export.redact", found)

    def _ordered(self) -> list[str]:
        graph = {table: needs(node, self.columns, self.nodes) for table, node in self.nodes.items()}
        try:
            return list(graphlib.TopologicalSorter(graph).static_order())
        except graphlib.CycleError as error:
            circle = error.args[1]
            self.problems.add(circle[0], f"the sections need each other: {' -> '.join(circle)}.")
            return list(self.nodes)


def _keys_in(columns: Mapping[str, Any]) -> str:
    """Say which columns of a file of values may name its records."""
    keys = [
        f'key = "{name if name in ("uid", "source_id") else f"meta.{name}"}"'
        for name, dtype in columns.items()
        if name != "row" and (dtype == pl.String or dtype.is_integer())
    ]
    if "row" in columns:
        keys.append('ids = "<file>", with the keys of its rows')
    return f" Its rows may be matched by {' or '.join(keys)}." if keys else ""


def _columns_called(name: str) -> list[str]:
    """Return the notes of our methods whose column has a name, such as `caption_stats.words`."""
    return [
        f"{method}.{name}"
        for method in methods.names("curation.annotate")
        if name in methods.load("curation.annotate", method).writes
    ]


def _reference_help(spec: Table) -> str:
    return "name pool:<name>" if spec.pool else "name fit.<alias>, file:<path> or pool:<name>"
