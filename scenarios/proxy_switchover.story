# Applications at two proxies, one of them on the leader's host, are held while the leader hands over, and then
# served by the next: nobody is told of an error.
cluster n1 n2 n3 durability quorum
lead n1
proxy p1
proxy p2 on n1
wait 1s
apps 8 30ms
wait 1s
calm
switchover n2
expect leader n2 within 3s
expect reached "front: a statement was held"
expect fronted within 2s
expect unreached "front: told 40001"
expect unreached "front: told 08007"
expect unreached "front: told 57P03"
wait 2s
end
