# SPDX-License-Identifier: Apache-2.0
"""SROS2 policy from the topics and services of running nodes.

``python -m dualfocus_ros.nodes.security_policy /dualfocus /focus_sweep`` prints the policy of
these nodes; ``config/security_policy.xml`` is that of the nodes of ``sim.launch.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
import sys
import time
from typing import Any
from xml.etree import ElementTree

VERSION = '0.2.0'
PREFIX = '/perception'
# Absolute names that every node has, in any namespace.
_GLOBAL = ('/rosout', '/parameter_events', '/diagnostics', '/clock')
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by `python -m dualfocus_ros.nodes.security_policy`; see docs/security.md. -->"""
_TIMEOUT, _SETTLE_TIME = 30.0, 2.0


@dataclass(frozen=True)
class NodeAccess:
    """Permissions of a node; names are absolute.

    :param permissions: names by kind (topic, service) and verb (publish, subscribe, reply,
        request).
    """

    namespace: str
    name: str
    permissions: Mapping[tuple[str, str], frozenset[str]]

    def expression(self, name: str) -> str:
        """Return a name in the form of policies: relative to the node or its namespace."""
        own = f'{self.namespace.rstrip("/")}/{self.name}/'
        if name.startswith(own):
            return f'~/{name[len(own) :]}'
        inside = f'{self.namespace.rstrip("/")}/'
        if name in _GLOBAL or not name.startswith(inside):
            return name
        return name[len(inside) :]


def discover_access(node: Any, namespace: str, name: str) -> NodeAccess:
    """Return the topics and services of another node, as discovered by ``node``."""
    found = {
        ('topic', 'publish'): node.get_publisher_names_and_types_by_node,
        ('topic', 'subscribe'): node.get_subscriber_names_and_types_by_node,
        ('service', 'reply'): node.get_service_names_and_types_by_node,
        ('service', 'request'): node.get_client_names_and_types_by_node,
    }
    return NodeAccess(
        namespace,
        name,
        {key: frozenset(topic for topic, _ in ask(name, namespace)) for key, ask in found.items()},
    )


def policy_xml(nodes: Iterable[NodeAccess], prefix: str = PREFIX) -> str:
    """Return the policy; the enclave of a node is ``prefix`` and its name."""
    root = ElementTree.Element('policy', version=VERSION)
    enclaves = ElementTree.SubElement(root, 'enclaves')
    for access in nodes:
        enclave = ElementTree.SubElement(
            enclaves, 'enclave', path=enclave_path(prefix, access.name)
        )
        profiles = ElementTree.SubElement(enclave, 'profiles')
        profile = ElementTree.SubElement(
            profiles, 'profile', ns=access.namespace, node=access.name
        )
        for (kind, verb), names in access.permissions.items():
            if names:
                group = ElementTree.SubElement(profile, f'{kind}s', {verb: 'ALLOW'})
                for expression in sorted(map(access.expression, names)):
                    ElementTree.SubElement(group, kind).text = expression
    ElementTree.indent(root)
    return f'{_HEAD}\n{ElementTree.tostring(root, encoding="unicode")}\n'


def enclave_path(prefix: str, name: str) -> str:
    """Return the enclave of a node, as in the launch files."""
    return f'/{prefix.strip("/")}/{name}'


def enclave_arguments(prefix: str, name: str) -> list[str]:
    """Return the ROS arguments that put a node into its enclave; none without a prefix."""
    return ['--enclave', enclave_path(prefix, name)] if prefix else []


def main(words: list[str] | None = None) -> int:
    """Print the policy of running nodes; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('nodes', nargs='+', metavar='/NAMESPACE/NODE')
    parser.add_argument('--enclave', default=PREFIX, help='prefix of the enclaves (%(default)s)')
    arguments = parser.parse_args(words)
    import rclpy

    rclpy.init(args=[])
    observer = rclpy.create_node('policy_observer', start_parameter_services=False)
    try:
        found = _wait_for_nodes(observer, arguments.nodes)
    finally:
        observer.destroy_node()
        rclpy.try_shutdown()
    if found is None:
        print(f'not all of {", ".join(arguments.nodes)} are running', file=sys.stderr)
        return 1
    sys.stdout.write(policy_xml(found, arguments.enclave))
    return 0


def _wait_for_nodes(observer: Any, names: list[str]) -> list[NodeAccess] | None:
    """Return the access of the nodes once it is stable; None if a node is missing."""
    wanted = [(f'/{n.strip("/")}'.rpartition('/')[0] or '/', n.rpartition('/')[2]) for n in names]
    end = time.monotonic() + _TIMEOUT
    last, since = None, 0.0
    while time.monotonic() < end:
        there = {(space, name) for name, space in observer.get_node_names_and_namespaces()}
        if there.issuperset(wanted):
            now = [discover_access(observer, space, name) for space, name in wanted]
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > _SETTLE_TIME:
                return now
        time.sleep(0.2)
    return None


if __name__ == '__main__':
    sys.exit(main())
