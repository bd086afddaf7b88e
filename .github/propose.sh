#!/usr/bin/env bash
# propose.sh WHERE WHAT [--auto]
# Opens a pull request with what a workflow has changed in its checkout; with
# --auto it merges itself when the required checks are green.
set -euo pipefail

where=${1:?usage: propose.sh WHERE WHAT [--auto]} what=${2:?usage: propose.sh WHERE WHAT [--auto]}
if git diff --quiet; then
	echo "nothing has changed"
	exit
fi
branch=$where/$(date --utc +%Y%m%d-%H%M%S)
git config user.name "sallyport release"
git config user.email "release@users.noreply.github.com"
git switch --create "$branch"
git commit --all --message "$where: $what"
git push --set-upstream origin "$branch"
gh pr create --base main --head "$branch" --title "$where: ${what##*@}" --body "$what"
if [ "${3:-}" = --auto ]; then
	gh pr merge "$branch" --auto --squash --delete-branch
fi
