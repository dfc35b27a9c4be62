# The link between a proxy and the leader is cut in a COMMIT, silently, and nothing else is wrong: the number is
# known, so the fate is settled with the same leader once the link is back.
cluster n1 n2 n3 durability quorum
lead n1
proxy p1
wait 1s
when front-commit any cut-proxy p1 it for 4s
via p1 x1 block
expect untold x1 for 3s
expect told x1 done within 4s
expect once x1
expect reached "front: lost Silent"
expect term 1
wait 2s
end
