# Both standbys gone: writes stop rather than lie, and resume by themselves.
cluster n1 n2 n3 durability quorum
lead n1
kill n2
kill n3
wait 1s
write w1 on n1
wait 10s
expect unacked w1
start n2
expect acked w1 within 20s
expect term 1 leader n1
start n3
expect rule n2 n3 within 20s
