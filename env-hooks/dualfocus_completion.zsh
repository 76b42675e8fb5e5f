# SPDX-License-Identifier: Apache-2.0
# Where somebody types, Tab completes the words of dualfocus.
case $- in
  *i*)
    if type dualfocus >/dev/null 2>&1 && type compdef >/dev/null 2>&1; then
      eval "$(dualfocus completion zsh 2>/dev/null)"
    fi
    ;;
esac
