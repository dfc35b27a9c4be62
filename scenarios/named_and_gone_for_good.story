# Elected with n3 in its rule, n2 waits for n3, which is gone for good; n1, the old leader, is back with a tail, and its own rule binds it: only a new term takes it in.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
wait 1s
write w1
cut n1 n2
cut n1 n3
try w2
wait 100ms
when promote:5 n2 kill n3
kill n1 for 6s
wait 1s
heal
expect leader n1|n2 within 60s
wait 2s
write w3
expect acked w3 within 10s
