# SPDX-License-Identifier: Apache-2.0
# Tab completion of dualfocus in interactive shells; needs argcomplete.
case $- in
  *i*)
    # Ubuntu 22.04 installs the command with a suffix.
    for _dualfocus_register in register-python-argcomplete register-python-argcomplete3; do
      if type "$_dualfocus_register" >/dev/null 2>&1; then
        eval "$("$_dualfocus_register" dualfocus)"
        break
      fi
    done
    unset _dualfocus_register
    ;;
esac
