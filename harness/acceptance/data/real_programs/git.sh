# SPDX-License-Identifier: MIT
# A repository, its history, and clones over a socket and by path.

export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_DATE='2000-01-01T00:00:00Z' GIT_COMMITTER_DATE='2000-01-01T00:00:00Z'
git config --global user.email a@example.org
git config --global user.name name
git config --global init.defaultBranch main
git init -q r
cd r || exit
for i in 1 2 3; do
	seq 1 $((i * 100)) >f
	git add f
	git commit -qm "number $i"
done
git log --format='%H %s' --stat
git checkout -qb side HEAD~1 && echo side >g && git add g && git commit -qm side
git merge -q -m merge main && git log --oneline --graph
git gc -q
cd ..
git daemon --base-path=. --export-all --reuseaddr --listen=127.0.0.1 --port=9418 &
server=$!
until git ls-remote -q git://127.0.0.1/r >refs 2>/dev/null; do sleep 0.1; done
cat refs
git clone -q git://127.0.0.1/r r2
git -C r2 fsck --full 2>/dev/null
cat r2/g
git clone -q --no-local r r3 && diff -r r2/.git/refs/heads r3/.git/refs/heads && wc -l r3/f
kill $server
wait $server
echo "status $?"
