# SPDX-License-Identifier: Apache-2.0
"""SROS2 policy of running nodes, from their topics and services."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import time
from typing import Any
from xml.etree import ElementTree

import rclpy
from rclpy.context import Context

# Absolute names that every node has, in any namespace.
_GLOBAL = ('/rosout', '/parameter_events', '/diagnostics', '/clock')
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Nodes of sim.launch.py; test/integration/test_security.py, docs/security.md. -->"""
_SETTLE_TIME = 2.0

# Names by kind (topic, service) and verb (publish, subscribe, reply, request).
Permissions = dict[tuple[str, str], frozenset[str]]


def running_policy(names: Sequence[str], timeout: float = 30.0) -> str:
    """Return the policy of running nodes, once their topics and services are stable.

    :param names: absolute names; the enclave of a node is /perception/NAME.
    :raises TimeoutError: if a node is missing.
    """
    wanted = [(name.rpartition('/')[0] or '/', name.rpartition('/')[2]) for name in names]
    with Context() as context:
        observer = rclpy.create_node(
            'policy_observer', context=context, start_parameter_services=False
        )
        try:
            end = time.monotonic() + timeout
            last, since = None, 0.0
            while time.monotonic() < end:
                there = {(space, name) for name, space in observer.get_node_names_and_namespaces()}
                if there.issuperset(wanted):
                    now = [(*node, _permissions(observer, *node)) for node in wanted]
                    if now != last:
                        last, since = now, time.monotonic()
                    elif time.monotonic() - since > _SETTLE_TIME:
                        return _policy_xml(now)
                time.sleep(0.2)
        finally:
            observer.destroy_node()
    raise TimeoutError(f'not all of {", ".join(names)} are running')


def _permissions(observer: Any, namespace: str, name: str) -> Permissions:
    asked = {
        ('topic', 'publish'): observer.get_publisher_names_and_types_by_node,
        ('topic', 'subscribe'): observer.get_subscriber_names_and_types_by_node,
        ('service', 'reply'): observer.get_service_names_and_types_by_node,
        ('service', 'request'): observer.get_client_names_and_types_by_node,
    }
    return {
        key: frozenset(topic for topic, _ in ask(name, namespace)) for key, ask in asked.items()
    }


def _expression(namespace: str, node: str, name: str) -> str:
    """Return a name in the form of policies: relative to the node or its namespace."""
    inside = f'{namespace.rstrip("/")}/'
    if name.startswith(f'{inside}{node}/'):
        return f'~/{name.removeprefix(f"{inside}{node}/")}'
    return name if name in _GLOBAL else name.removeprefix(inside)


def _policy_xml(nodes: Iterable[tuple[str, str, Permissions]]) -> str:
    root = ElementTree.Element('policy', version='0.2.0')
    enclaves = ElementTree.SubElement(root, 'enclaves')
    for namespace, node, permissions in nodes:
        enclave = ElementTree.SubElement(enclaves, 'enclave', path=f'/perception/{node}')
        profiles = ElementTree.SubElement(enclave, 'profiles')
        profile = ElementTree.SubElement(profiles, 'profile', ns=namespace, node=node)
        for (kind, verb), names in permissions.items():
            if names:
                group = ElementTree.SubElement(profile, f'{kind}s', {verb: 'ALLOW'})
                for expression in sorted(_expression(namespace, node, name) for name in names):
                    ElementTree.SubElement(group, kind).text = expression
    ElementTree.indent(root)
    return f'{_HEAD}\n{ElementTree.tostring(root, encoding="unicode")}\n'
