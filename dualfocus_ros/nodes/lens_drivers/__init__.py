# SPDX-License-Identifier: Apache-2.0
"""How ``focus_sweep_node`` drives lenses: by a topic, or through the parameters of a driver."""
