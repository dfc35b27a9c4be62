# A node with the tag no_failover never leads by itself, not even as the only one that is left.
cluster n1 n2 n3 no_failover n2 durability quorum
lead n1
write w1
when begin-term any nonsense
kill n1
expect term 2 leader n3 within 10s
expect durable w1
start n1
expect rule n1 n2 within 60s
kill n1
kill n3
wait 10s
expect no leader for 5s
start n1
expect leader n1 within 20s
start n3
expect rule all within 60s
expect durable w1
end
