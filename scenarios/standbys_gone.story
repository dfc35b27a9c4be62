# Both standbys gone: writes stop rather than lie, and resume by themselves.
cluster n1 n2 n3 durability quorum
lead n1
wait 2s
kill n2
kill n3
wait 1s
write w1 on n1
expect unacked w1
wait 10s                        # nobody says that it leads any more: its guard has ended its server (C-25)
expect unacked w1
start n2
expect leader n1|n2 within 20s
write w2
start n3
expect rule all within 20s
expect durable w2
