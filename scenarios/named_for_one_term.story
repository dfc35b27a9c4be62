# Whom an operator named for a term that came to nothing is waited for in the next one, too.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
write w1
when promote:1 n3 kill n3
failover n3
wait 600ms
expect term 3 within 4s
expect leader n1|n2 within 1500ms
