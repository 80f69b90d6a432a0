# SPDX-License-Identifier: MIT
# There is an ordinary user, who may do what such a user may.
# says: user
# says: /home/user
# says: 524288
# says: 1
su - user -c 'id -un; pwd; ulimit -Hn; echo >/root/file' 2>log || echo $?
