# Paused: nobody takes over, but a crashed leader may lead again on its own node.
cluster n1 n2 n3 durability quorum
lead n1
pause
kill n1
expect no leader for 10s
start n1
expect leader n1 within 10s
kill n1 postmaster
expect leader n1 within 5s
resume
kill n1
expect leader n2|n3 within 3s
