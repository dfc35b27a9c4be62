# A backend is ended while its commit waits for the standbys: the leader calls the transaction committed, and it
# alone has it. Whoever asks for its fate proves first that all before the question is safe, and is told of the
# next leader that it is not.
cluster n1 n2 n3 durability quorum
lead n1
proxy p1
wait 1s
close-port n1
wait 10ms
via p1 x1 block
wait 100ms
disconnect n1
expect untold x1 for 1s
kill n1
expect told x1 40001 within 8s
expect never x1
expect reached "front: settled NotCommitted"
calm
wait 3s
end
