# Single statements, whose leader is lost with all that only it had: they are run again at the next one, once,
# and a prepared one keeps its name.
cluster n1 n2 n3 durability quorum
lead n1
proxy p1
wait 1s
when front-commit any kill it for 4s
via p1 x1 prepared
expect told x1 done within 5s
expect once x1
expect reached "front: a statement was run again"
wait 4s
when front-insert any kill it postmaster
via p1 x2 single
expect told x2 done within 5s
expect once x2
wait 4s
end
